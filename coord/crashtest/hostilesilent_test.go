package crashtest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// limitFiles runs a member with so many open files at most.
func limitFiles(m *member, n int) {
	m.wrap = []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n)}
}

// flood are connections to one address.
type flood struct {
	t     testing.TB
	conns []net.Conn
}

// connect opens n connections and sends the same over each.
func (f *flood) connect(addr string, n int, say string) {
	f.t.Helper()
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			f.t.Fatalf("the port is closed after %d connections: %v", len(f.conns), err)
		}
		f.conns = append(f.conns, c)
		_, _ = io.WriteString(c, say)
	}
}

func (f *flood) close() {
	for _, c := range f.conns {
		c.Close()
	}
}

// ended waits until the member has closed all, and returns how long that took.
func (f *flood) ended(within time.Duration) time.Duration {
	f.t.Helper()
	begin := time.Now()
	var waiting sync.WaitGroup
	for _, c := range f.conns {
		waiting.Go(func() {
			_ = c.SetReadDeadline(begin.Add(within))
			if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
				f.t.Errorf("%v is open after %v", c.LocalAddr(), within)
			}
		})
	}
	waiting.Wait()
	return time.Since(begin)
}

// Silent connections to all ports of a member, more than it may have open files, end nothing: it writes, rotates its
// log and compacts, its peers reach it, a client that was there goes on, and new ones get in. So do connections that
// have said hello and stay: beyond the limit new ones are closed, and those that are there are served.
func TestHostileSilentConnections(t *testing.T) {
	c := layOut(t, 3, "--snapshot-count=40")
	m := c.members[0]
	limitFiles(m, 1024)
	c.start()
	there := dial(t, m.client)
	put(t, there, "before/", 10)

	silent := &flood{t: t}
	defer silent.close()
	for _, addr := range []string{m.client, m.peer} {
		silent.connect(addr, 700, "")
		silent.connect(addr, 300, "P")
		silent.connect(addr, 300, "GET /health HTTP/1.1\r\nHost: ")
	}
	acked := put(t, there, "silent/", 100)
	fresh := dial(t, m.client)
	if _, err := fresh.Put(within(t, 10*time.Second), "fresh", "1"); err != nil {
		t.Errorf("a new client, beside silent connections: %v", err)
	}
	compactAll(t, there)
	restarted := c.members[1]
	restarted.kill() // its peers dial each other again
	restarted.start(t)
	restarted.waitReady(t)
	c.checkEqual()
	silent.ended(30 * time.Second)

	greeted := &flood{t: t}
	defer greeted.close()
	greeted.connect(m.client, 1200, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	for key, value := range put(t, there, "greeted/", 100) {
		acked[key] = value
	}
	compactAll(t, there)
	if page := metrics(t, c.members[2].client); strings.Contains(page, `reason="limit"`) {
		t.Error("a member that was let alone closed connections")
	}
	greeted.close()
	if _, err := dial(t, m.client).Put(within(t, patience), "after", "1"); err != nil {
		t.Errorf("a new client, after the others have gone: %v", err)
	}
	page := metrics(t, m.client)
	for _, want := range []string{
		`coord_connections_refused_total{port="client",reason="limit"}`,
		`coord_connections_refused_total{port="client",reason="half_open"}`,
		`coord_connections_refused_total{port="peer",reason="half_open"}`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	c.checkEqual()
	checkStored(t, there, acked)
	for _, m := range c.members {
		if strings.Contains(m.output(), "too many open files") {
			t.Errorf("%s had too many open files", m.name)
		}
	}
}

// compactAll compacts what there is, and waits until that is done on the member.
func compactAll(t testing.TB, cli *clientv3.Client) {
	t.Helper()
	got, err := cli.Get(within(t, patience), "revision?")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(within(t, patience), got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

// metrics is a member's page.
func metrics(t testing.TB, addr string) string {
	t.Helper()
	resp, err := (&http.Client{Timeout: patience}).Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// A limit of open files with which the log could fail is refused at the start, in one line that says what to do.
func TestTooFewOpenFiles(t *testing.T) {
	c := layOut(t, 1)
	m := c.members[0]
	limitFiles(m, 200)
	m.start(t)
	if code := m.exit(t); code == 0 {
		t.Error("exit code 0")
	}
	if last := m.tail(1); !strings.Contains(last, "limit of open files is 200") ||
		!strings.Contains(last, "ulimit -n") {
		t.Errorf("the last line is %q", last)
	}
}
