package crashtest

import (
	"bytes"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a client and one member, and can lose what the member answers.
type proxy struct {
	listener net.Listener
	deaf     atomic.Bool // drops what the member sends
	heard    *recording  // keeps what passes, if not nil
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{}
	lost   map[net.Conn]struct{} // those that stay open and carry nothing any more
}

// startProxy starts a proxy; the test's end stops it.
func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})})
}

func serveProxy(t testing.TB, p *proxy) *proxy {
	l := p.listener
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
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		up, err := net.DialTimeout("tcp", target, time.Second)
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
	keep := p.heard.stream()
	for {
		n, err := src.Read(buf)
		keep(buf[:n])
		if n > 0 && !(answers && p.deaf.Load()) && !p.isLost(down) {
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

// lose makes the machine behind the proxy a lost one: its connections stay open and carry nothing, new ones lead to
// target.
func (p *proxy) lose(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.lost = target, maps.Clone(p.conns)
}

func (p *proxy) isLost(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, lost := p.lost[c]
	return lost
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// loseAnswers lets requests through and drops their answers for a while, then ends the connections: the client knows of
// none of them what came of it.
func (p *proxy) loseAnswers(d time.Duration) {
	p.deaf.Store(true)
	time.Sleep(d)
	p.cut()
	p.deaf.Store(false)
}

// recording is what passed through proxies, one way of one connection after the other.
type recording struct {
	mu      sync.Mutex
	streams []*bytes.Buffer
}

// stream returns a function that keeps what passes one way of a connection. Nothing is kept by no recording.
func (r *recording) stream() func([]byte) {
	if r == nil {
		return func([]byte) {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := &bytes.Buffer{}
	r.streams = append(r.streams, one)
	return func(b []byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		one.Write(b)
	}
}

// take returns what was kept since the last time.
func (r *recording) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all [][]byte
	for _, one := range r.streams {
		all = append(all, bytes.Clone(one.Bytes()))
		one.Reset()
	}
	return all
}
