package netlimit

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
)

// preface is how an HTTP/2 client begins.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxHead bounds what is read of an HTTP/1 request before a server gets it. That of a longer one is for the server to
// refuse.
const maxHead = 4 << 10

// Mux tells the HTTP/2 connections of a port from others, and hands each to its server once its client has shown what
// it speaks: the whole preface of HTTP/2, or the head of a first request.
type Mux struct {
	listener     net.Listener
	log          *zap.Logger
	http2, http1 *handed
	sniffing     sync.WaitGroup
}

// NewMux shares the connections of a listener, which is one of a Port's.
func NewMux(l net.Listener, log *zap.Logger) *Mux {
	return &Mux{listener: l, log: log, http2: newHanded(l.Addr()), http1: newHanded(l.Addr())}
}

// HTTP2 and HTTP1 are the listeners of the two servers.
func (m *Mux) HTTP2() net.Listener { return m.http2 }
func (m *Mux) HTTP1() net.Listener { return m.http1 }

// Serve takes connections until the listener is closed. It ends those that were not handed over yet, and both
// listeners.
func (m *Mux) Serve() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer m.sniffing.Wait()
	defer cancel()
	defer m.http1.Close()
	defer m.http2.Close()
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return err
		}
		m.sniffing.Go(func() {
			defer guard.Recover(m.log, "accept", func(any) { c.Close() })
			m.sniff(ctx, c)
		})
	}
}

// sniff hands a connection to its server. The port ends one that takes too long.
func (m *Mux) sniff(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	head, isHTTP2, err := readHead(c)
	if err != nil {
		c.Close()
		return
	}
	Ready(c)
	to := m.http1
	if isHTTP2 {
		to = m.http2
	}
	to.hand(&begun{Conn: c, head: head})
}

// readHead reads until it is clear what a client speaks.
func readHead(r io.Reader) (head []byte, isHTTP2 bool, err error) {
	buf := make([]byte, 0, 512)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) >= len(preface) && string(buf[:len(preface)]) == preface:
			return buf, true, nil
		case len(buf) < len(preface) && string(buf) == preface[:len(buf)]:
			// it may become one
		case bytes.Contains(buf, []byte("\r\n\r\n")), bytes.Contains(buf, []byte("\n\n")), len(buf) >= maxHead:
			return buf, false, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// begun is a connection of which the head was read already.
type begun struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.head) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.head)
	if b.head = b.head[n:]; len(b.head) == 0 {
		b.head = nil
	}
	return n, nil
}

// handed is a listener that gives a server the connections that are handed to it.
type handed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handed) hand(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }
