package crashtest

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// hostilePackets are no questions, or not quite.
func hostilePackets(t testing.TB) [][]byte {
	t.Helper()
	question, err := new(dns.Msg).SetQuestion("pay.service.coord.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	loop := append([]byte(nil), question[:12]...)
	loop = append(loop, 0xc0, 12, 0, 1, 0, 1) // a name that points at itself
	packets := [][]byte{question[:12], loop, {}, {1}, make([]byte, 12), make([]byte, 4000)}
	for n := range question {
		packets = append(packets, question[:n])
	}
	for i := range 12 { // a header that announces what does not come
		for _, b := range []byte{1, 0x7f, 0x80, 0xff} {
			changed := append([]byte(nil), question...)
			changed[i] = b
			packets = append(packets, changed, changed[:12])
		}
	}
	return packets
}

// No packet ends a member: not one whose header announces a question that is not there, over UDP or TCP.
func TestHostileDNS(t *testing.T) {
	server := freeAddrs(t, 1)[0]
	c := startCluster(t, 1, "--listen-dns="+server)
	packets := hostilePackets(t)
	udp, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, p := range packets {
		if _, err := udp.Write(p); err != nil {
			t.Fatalf("after %d packets: %v", len(packets), err)
		}
		sendDNS(t, server, p)
	}
	m := c.members[0]
	if !m.running() {
		t.Fatalf("a packet ended the member; its log ends:\n%s", m.tail(20))
	}
	for _, network := range []string{"udp", "tcp"} {
		client := &dns.Client{Net: network, Timeout: 5 * time.Second}
		resp, _, err := client.Exchange(new(dns.Msg).SetQuestion("coord.", dns.TypeSOA), server)
		if err != nil || len(resp.Answer) != 1 {
			t.Errorf("over %s, after all that: %v, %v", network, resp, err)
		}
	}
	if _, err := c.dial().Put(within(t, patience), "a", "1"); err != nil {
		t.Error(err)
	}
}

// sendDNS sends a packet over a connection of its own, and waits for what comes of it.
func sendDNS(t testing.TB, server string, packet []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatalf("the member does not answer any more: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(packet)))); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn)
}
