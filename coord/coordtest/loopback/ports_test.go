package loopback

import (
	"fmt"
	"net"
	"testing"
)

// A port comes once, is free, and is none that the kernel would give to a connection.
func TestPorts(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		ports, err := Ports(6)
		if err != nil || len(ports) != 6 {
			t.Fatalf("%v, %v", ports, err)
		}
		for _, port := range ports {
			if seen[port] || port < first || port >= end {
				t.Errorf("port %d, after %v", port, seen)
			}
			seen[port] = true
		}
	}
	mu.Lock()
	taken := next
	mu.Unlock()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+taken))
	if err != nil {
		t.Skip("somebody else has it: ", err)
	}
	defer l.Close()
	if ports, err := Ports(1); err != nil || ports[0] == first+taken {
		t.Errorf("a port that is listened on: %v, %v", ports, err)
	}
}
