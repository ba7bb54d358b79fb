package netlimit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a port that is listened on.
type world struct {
	t        *testing.T
	port     *Port
	listener net.Listener
}

func start(t *testing.T, opts Options) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts.Name, opts.Metrics, opts.Logger = "test", NewMetrics(), zap.NewNop()
	p := NewPort(opts)
	t.Cleanup(func() { l.Close() })
	return &world{t, p, p.Listen(l)}
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// connect returns both ends of a connection.
func (w *world) connect() (client net.Conn, server *Conn) {
	w.t.Helper()
	client = w.dial()
	c, err := w.listener.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return client, c.(*Conn)
}

// closed waits until the other end has closed a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is open: %v", err)
	}
}

func open(t *testing.T, client net.Conn, server net.Conn) {
	t.Helper()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Errorf("the connection is closed: %v", err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Errorf("the connection is closed: %v", err)
	}
}

// The oldest of too many half-open connections is closed, never one that has spoken.
func TestOldestHalfOpenGoes(t *testing.T) {
	w := start(t, Options{Max: 10, MaxHalfOpen: 2})
	spoke, s := w.connect()
	s.Ready()
	first, _ := w.connect()
	second, s2 := w.connect()
	third, s3 := w.connect()
	closed(t, first)
	open(t, spoke, s)
	open(t, second, s2)
	open(t, third, s3)
}

// A connection that says nothing is closed when its time is over, whatever the server above waits for.
func TestHalfOpenTimesOut(t *testing.T) {
	w := start(t, Options{Max: 10, MaxHalfOpen: 10, Timeout: 20 * time.Millisecond})
	spoke, s := w.connect()
	s.Ready()
	silent, _ := w.connect()
	closed(t, silent)
	open(t, spoke, s)
}

// Beyond the limit new connections are closed at once; a closed or proven one makes room.
func TestLimit(t *testing.T) {
	w := start(t, Options{Max: 2, MaxHalfOpen: 2})
	_, a := w.connect()
	client, b := w.connect()
	refused := w.dial()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := w.listener.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	closed(t, refused)
	a.Close()
	a.Close()
	w.dial()
	(<-accepted).Close()
	w.dial()
	c := <-accepted
	b.Proven()
	w.dial()
	(<-accepted).Close()
	c.Close()
	b.Close()
	closed(t, client)
	w.listener.Close()
	for range accepted { // until it ends
	}
	if w.port.mu.open != 0 || w.port.mu.halfOpen.Len() != 0 {
		t.Errorf("%d are open, %d half-open", w.port.mu.open, w.port.mu.halfOpen.Len())
	}
}

// failingListener has no descriptors for a while.
type failingListener struct {
	net.Listener
	errs []error
}

func (f *failingListener) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

// Accept goes on behind errors that pass.
func TestAcceptGoesOn(t *testing.T) {
	p := NewPort(Options{Name: "test", Metrics: NewMetrics(), Logger: zap.NewNop()})
	l := p.Listen(&failingListener{errs: []error{syscall.EMFILE, syscall.ENOBUFS, syscall.EPERM, net.ErrClosed}})
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestReadHead(t *testing.T) {
	long := strings.Repeat("x", maxHead)
	for _, c := range []struct {
		sent  string
		http2 bool
		fails bool
	}{
		{preface, true, false}, {preface + "more", true, false}, {"GET / HTTP/1.1\r\n\r\n", false, false},
		{"GET /\n\n", false, false},
		{"", false, true}, {"PRI * HTTP/2.0\r\n", false, true}, {preface[:23], false, true},
		{"GET / HTTP/1.1\r\n", false, true},
		{"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", false, false}, {long, false, false}, {long + long, false, false},
		{"PRI\r\n\r\n", false, false},
	} {
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.sent), "byte by byte": iotest.OneByteReader(strings.NewReader(c.sent)),
		} {
			head, isHTTP2, err := readHead(r)
			if isHTTP2 != c.http2 || (err != nil) != c.fails {
				t.Errorf("%.30q %s: HTTP/2 %v, %v", c.sent, name, isHTTP2, err)
			}
			rest, _ := io.ReadAll(r)
			if all := string(head) + string(rest); !c.fails && all != c.sent {
				t.Errorf("%.30q %s became %.30q", c.sent, name, all)
			}
		}
	}
}

// FuzzReadHead: whatever comes, in whatever pieces, reaches the server unchanged, and what is HTTP/2 does not depend on
// the pieces.
func FuzzReadHead(f *testing.F) {
	f.Add([]byte(preface))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole, one := bytes.NewReader(sent), bytes.NewReader(sent)
		head, isHTTP2, err := readHead(whole)
		piece, alike, failed := readHead(iotest.OneByteReader(one))
		if isHTTP2 != alike || isHTTP2 != bytes.HasPrefix(sent, []byte(preface)) || (err != nil) != (failed != nil) {
			t.Errorf("HTTP/2 %v and %v, %v and %v", isHTTP2, alike, err, failed)
		}
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(whole)
		remains, _ := io.ReadAll(one)
		if string(head)+string(rest) != string(sent) || string(piece)+string(remains) != string(sent) {
			t.Error("bytes were lost or changed")
		}
	})
}
