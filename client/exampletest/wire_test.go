package exampletest

import (
	"net"
	"sync"
	"testing"
)

// wire forwards connections to a server, can be cut and can go silent.
type wire struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu    sync.Mutex
	quiet *sync.Cond
	mute  bool
	shut  bool
	conns map[net.Conn]struct{}
	taken int // connections
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to, conns: map[net.Conn]struct{}{}}
	w.quiet = sync.NewCond(&w.mu)
	w.running.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		w.mu.Lock()
		w.conns[from], w.conns[to] = struct{}{}, struct{}{}
		w.taken++
		w.mu.Unlock()
		w.running.Go(func() { w.copy(from, to) })
		w.running.Go(func() { w.copy(to, from) })
	}
}

func (w *wire) copy(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.mute && !w.shut {
			w.quiet.Wait()
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// silence lets connections live and nothing through.
func (w *wire) silence(mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = mute
	w.quiet.Broadcast()
}

// cut breaks the connections there are.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

// stop refuses connections, and breaks those there are.
func (w *wire) stop() {
	_ = w.listener.Close()
	w.cut()
}

// used is how many connections came.
func (w *wire) used() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.shut = true
	w.quiet.Broadcast()
	w.mu.Unlock()
	w.cut()
	w.running.Wait()
	w.cut()
}
