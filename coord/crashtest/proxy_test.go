package crashtest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a client and one member, and can lose what the member answers.
type proxy struct {
	listener net.Listener
	target   string
	deaf     atomic.Bool // drops what the member sends
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// startProxy starts a proxy; the test's end stops it.
func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		down, err := p.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.DialTimeout("tcp", p.target, time.Second)
		if err != nil {
			down.Close()
			continue
		}
		p.keep(down, up)
		p.running.Go(func() { p.copy(up, down, down, up, false) })
		p.running.Go(func() { p.copy(down, up, down, up, true) })
	}
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
}

// copy moves bytes one way until either side closes; then it closes both.
func (p *proxy) copy(dst io.Writer, src io.Reader, down, up net.Conn, answers bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !(answers && p.deaf.Load()) {
			if _, err := dst.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []net.Conn{down, up} {
		delete(p.conns, c)
		c.Close()
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// loseAnswers lets requests through and drops their answers for a while, then ends the connections: the client knows of none
// of them what came of it.
func (p *proxy) loseAnswers(d time.Duration) {
	p.deaf.Store(true)
	time.Sleep(d)
	p.cut()
	p.deaf.Store(false)
}
