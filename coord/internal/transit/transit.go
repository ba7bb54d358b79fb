// Package transit follows messages from where they are handed to gRPC until they are written to the client's
// connection.
//
// gRPC queues one message of a stream whole, of whatever size, and small ones up to 64 KiB, for a client that does not
// read, and tells nobody when they are gone: SendMsg has returned long before. It holds them beyond the end of the
// stream's handler, as the status comes behind them. Three hundred streams with a megabyte each are 300 MB that nobody
// counts.
//
// So a Message carries a buffer that gRPC frees when it has written the message, or has been told that the client does
// not want it any more. What it frees not at all it has lost with the connection, which is why the connections are
// known here, too; and with the connection can be closed what a client does not read by any other means.
package transit

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Conns are the connections of a gRPC server. The zero value has none. It is safe for concurrent use.
type Conns struct {
	mu     sync.Mutex
	byAddr map[net.Addr]*conn // by the remote address that gRPC has of it too, which is a pointer
}

// Listen returns l, whose connections are known from now on.
func (c *Conns) Listen(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	conns *Conns
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, conns: l.conns, streams: map[*Stream]struct{}{}}
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	if l.conns.byAddr == nil {
		l.conns.byAddr = map[net.Addr]*conn{}
	}
	l.conns.byAddr[raw.RemoteAddr()] = c
	return c, nil
}

// conn is a connection, and the streams on it of which gRPC holds something.
type conn struct {
	net.Conn
	conns *Conns

	mu      sync.Mutex
	streams map[*Stream]struct{}
	closed  bool
}

// Close implements net.Conn. What gRPC held for the connection is lost.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	if addr := c.RemoteAddr(); c.conns.byAddr[addr] == c {
		delete(c.conns.byAddr, addr)
	}
	c.conns.mu.Unlock()
	c.mu.Lock()
	streams := c.streams
	c.streams, c.closed = nil, true
	c.mu.Unlock()
	for s := range streams {
		s.lose()
	}
	return c.Conn.Close()
}

// Stream is what gRPC holds of one stream, or of one call. Safe for concurrent use.
type Stream struct {
	conn *conn // nil: gRPC cannot be followed
	// gRPC's own: it ends when the client has gone or reset the stream, or the handler has returned
	call    context.Context
	written func(cost int64)

	mu    sync.Mutex
	held  int64 // costs of what was handed over and is not written
	ended bool  // the handler has returned
	cut   bool  // and the call had ended before
	read  bool  // nothing is received any more
	told  bool  // as gRPC has sent a status itself
	lost  bool  // gRPC holds nothing any more, and gets nothing that counts
}

// NewStream begins with a stream of a method whose handler runs with ctx; its owner calls Received and End. written is
// told what messages cost when gRPC holds them no longer, from any goroutine; it must not block. Where ctx is of no
// connection that is known here, messages count until they are handed over; so they do where ctx is of a call of
// another method, whose handler has made this stream inside the process: gRPC does not get its messages.
func (c *Conns) NewStream(ctx context.Context, method string, written func(cost int64)) *Stream {
	s := &Stream{call: ctx, written: written}
	known := c.find(ctx)
	if called, _ := grpc.Method(ctx); known == nil || called != method {
		return s
	}
	s.conn = known
	// What the handler sees may end for reasons of our own, of which gRPC does not know.
	if own, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ Context() context.Context }); ok {
		s.call = own.Context()
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.closed {
		s.lost = true
		return s
	}
	known.streams[s] = struct{}{}
	return s
}

func (c *Conns) find(ctx context.Context) *conn {
	from, ok := peer.FromContext(ctx)
	if !ok || c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byAddr[from.Addr]
}

// Follows reports whether messages are followed beyond their being handed over.
func (s *Stream) Follows() bool { return s.conn != nil }

// Held is what was handed to gRPC and is not written yet.
func (s *Stream) Held() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Received is told when nothing is received from the stream any more, with the error of RecvMsg if that is why. The
// call ends in two ways that look alike: the client has gone, and gRPC drops what it holds; or gRPC itself has sent a
// status, as of a message that does not parse, and what it holds waits for the client still, the status behind it.
func (s *Stream) Received(err error) {
	code := status.Code(err)
	s.mu.Lock()
	s.read = true
	s.told = err != nil && err != io.EOF && code != codes.Canceled && code != codes.Unavailable
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.lose()
	}
}

// gone reports whether the client had gone when the handler returned. The caller holds the mutex.
func (s *Stream) gone() bool { return s.cut && s.read && !s.told }

// End is called when the handler is about to return. Where the client has gone before, gRPC drops what it holds; else
// that waits for the client still, the status behind it.
func (s *Stream) End() {
	s.mu.Lock()
	s.ended, s.cut = true, s.call.Err() != nil
	gone, over := s.gone(), s.held == 0
	s.mu.Unlock()
	switch {
	case gone:
		s.lose()
	case over:
		s.forget()
	}
}

// CloseUnlessWritten, behind End, closes the connection if after a while some of what gRPC held is not written yet: a
// client that does not read cannot be made to give it back in any other way. closed is called then.
func (s *Stream) CloseUnlessWritten(after time.Duration, closed func()) {
	if s.conn == nil || s.Held() == 0 {
		return
	}
	time.AfterFunc(after, func() {
		if s.Held() > 0 {
			closed()
			s.conn.Close()
		}
	})
}

// lose gives back everything.
func (s *Stream) lose() {
	s.mu.Lock()
	held := s.held
	s.held, s.lost = 0, true
	s.mu.Unlock()
	if held > 0 {
		s.written(held)
	}
	s.forget()
}

func (s *Stream) forget() {
	if s.conn == nil {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	delete(s.conn.streams, s)
}

// give gives back the cost of a message.
func (s *Stream) give(cost int64) {
	s.mu.Lock()
	lost := s.lost
	over := false
	if !lost {
		s.held -= cost
		over = s.ended && s.held == 0
	}
	s.mu.Unlock()
	if !lost {
		s.written(cost)
	}
	if over {
		s.forget()
	}
}

// Message is a message for gRPC: the parts of its encoding, which nobody changes any more. It needs the codec that
// calls Buffers.
type Message struct {
	stream *Stream
	cost   int64
	parts  [][]byte
	gone   atomic.Bool
	token  []byte
}

// Message makes a message, which counts from now on. Its owner calls Handed. It does not count behind the end of the
// handler: gRPC takes it no more, or drops it without telling.
func (s *Stream) Message(cost int64, parts ...[]byte) *Message {
	m := &Message{stream: s, cost: cost, parts: parts}
	s.mu.Lock()
	over := s.lost || s.ended
	if !over {
		s.held += cost
	}
	s.mu.Unlock()
	if over {
		m.gone.Store(true)
		s.written(cost)
	}
	return m
}

// Handed is told what gRPC said when it was handed the message.
func (m *Message) Handed(err error) {
	if err != nil || !m.stream.Follows() {
		m.Written()
	}
}

// Written says that gRPC, or who takes messages in its place, does not hold the message any more. Only the first call
// counts.
func (m *Message) Written() {
	if m.gone.CompareAndSwap(false, true) {
		m.stream.give(m.cost)
	}
}

// Parts are those of the message.
func (m *Message) Parts() [][]byte { return m.parts }

// tokens is what the tokens of all messages are cut from: gRPC tells only of buffers with a capacity beyond a threshold
// that they are free.
var tokens = make([]byte, 4<<10)

// Buffers is the message for gRPC, in order: its parts, and an empty buffer, freed with the last of them.
func (m *Message) Buffers() mem.BufferSlice {
	buffers := make(mem.BufferSlice, 0, len(m.parts)+1)
	for _, part := range m.parts {
		buffers = append(buffers, mem.SliceBuffer(part))
	}
	m.token = tokens[:0]
	return append(buffers, mem.NewBuffer(&m.token, (*token)(m)))
}

// token is a Message as the pool to which gRPC gives its last buffer back.
type token Message

// Get implements mem.BufferPool; nobody calls it.
func (t *token) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool.
func (t *token) Put(*[]byte) { (*Message)(t).Written() }
