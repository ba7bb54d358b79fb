// Package loopback finds ports for servers that a test starts, stops and starts again.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// The ports are below those that the kernel gives to outgoing connections: else a connection of any process could take
// one while its server is stopped, and a client that tries again and again to reach that server could be given the port
// itself.
const first, end = 10000, 32000

// Every process goes through the range from a place of its own, so that processes that run beside each other seldom
// choose the same port, and none chooses one twice while the first to have it may still want it.
var (
	mu   sync.Mutex
	next = rand.IntN(end - first)
)

// Ports returns n different ports that nothing listens on. Nobody keeps them from being taken by another process that
// does not ask this package, but few look there.
func Ports(n int) ([]int, error) {
	mu.Lock()
	defer mu.Unlock()
	var ports []int
	for range end - first {
		if len(ports) == n {
			return ports, nil
		}
		port := first + next
		next = (next + 1) % (end - first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.Close()
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("found %d of %d free ports from %d to %d", len(ports), n, first, end-1)
}

// Addrs are Ports as addresses, 127.0.0.1:PORT.
func Addrs(n int) ([]string, error) {
	ports, err := Ports(n)
	var addrs []string
	for _, port := range ports {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return addrs, err
}
