package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// wire is one connection: buffered reads, writes under a deadline that holds as
// long as the peer takes bytes.
type wire struct {
	net.Conn
	r           *bufio.Reader
	idleTimeout time.Duration
	header      [headerSize]byte
}

func newWire(c net.Conn, idle time.Duration) *wire {
	return &wire{Conn: c, r: bufio.NewReaderSize(c, 64<<10), idleTimeout: idle}
}

func (w *wire) Read(p []byte) (int, error) { return w.r.Read(p) }

// send writes one frame. After an error the connection is of no more use.
func (w *wire) send(k kind, payload []byte) error {
	putHeader(w.header[:], k, payload)
	if err := w.SetWriteDeadline(time.Now().Add(w.idleTimeout)); err != nil {
		return err
	}
	first := payload[:min(len(payload), writeStep)]
	bufs := net.Buffers{w.header[:], first}
	if _, err := bufs.WriteTo(w.Conn); err != nil {
		return err
	}
	for rest := payload[len(first):]; len(rest) > 0; {
		if err := w.SetWriteDeadline(time.Now().Add(w.idleTimeout)); err != nil {
			return err
		}
		n, err := w.Write(rest[:min(len(rest), writeStep)])
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// sendNumber writes a ping or a pong.
func (w *wire) sendNumber(k kind, number uint64) error {
	return w.send(k, binary.LittleEndian.AppendUint64(nil, number))
}

// readNumber reads a ping or a pong.
func readNumber(r io.Reader) (kind, uint64, error) {
	k, payload, err := readFrame(r, nil, pingSize)
	if err != nil {
		return 0, 0, err
	}
	number, err := pingNumber(k, payload)
	return k, number, err
}

// pingNumber is the number in a ping or a pong, 0 in those that only show life.
func pingNumber(k kind, payload []byte) (uint64, error) {
	if k != kindPing && k != kindPong || len(payload) != pingSize {
		return 0, fmt.Errorf("%w: kind %d of %d bytes where a ping or a pong belongs", ErrBadFrame, k, len(payload))
	}
	return binary.LittleEndian.Uint64(payload), nil
}

// errNobodyThere is part of the error of a dial when at every address the host
// said that no process listens.
var errNobodyThere = errors.New("nobody listens there")

// dial connects to the first of addrs that answers.
func dial(ctx context.Context, addrs []string, pair *TLS, idle time.Duration) (*wire, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("address unknown")
	}
	var firstErr error
	refused := 0
	for _, addr := range addrs {
		c, err := dialOne(ctx, addr, pair)
		if err == nil {
			tune(c, idle)
			return newWire(c, idle), nil
		}
		if firstErr == nil {
			firstErr = err
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused++
		}
	}
	if refused == len(addrs) {
		return nil, fmt.Errorf("%w: %w", errNobodyThere, firstErr)
	}
	return nil, firstErr
}

func dialOne(ctx context.Context, addr string, pair *TLS) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := &net.Dialer{}
	if pair == nil || pair.Client == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	td := &tls.Dialer{NetDialer: d, Config: pair.Client}
	return td.DialContext(ctx, "tcp", addr)
}

// tune makes the kernel notice a peer that vanished: by keep-alive probes on a
// silent connection, by the user timeout when bytes are not acknowledged.
func tune(c net.Conn, idle time.Duration) {
	for {
		outer, ok := c.(interface{ NetConn() net.Conn }) // TLS, or a port's limits
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	probe := max(time.Second, idle/3)
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe, Count: 3})
	setUserTimeout(t, idle)
}
