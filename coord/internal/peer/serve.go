package peer

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/netlimit"
)

// serve starts the HTTP server and one accept loop a listener.
func (t *Transport) serve() {
	t.handed = newHandedListener()
	t.http = &http.Server{
		Handler:           guard.HTTP(t.opt.Logger, "peer page", t.opt.Handler),
		ReadHeaderTimeout: handshakeTimeout,
		ReadTimeout:       httpRead,
		IdleTimeout:       httpIdle,
		ErrorLog:          zap.NewStdLog(t.opt.Logger),
	}
	t.spawn(func() { _ = t.http.Serve(t.handed) })
	t.mu.Lock()
	listeners := t.mu.listeners
	t.mu.Unlock()
	for _, l := range listeners {
		t.spawn(func() { t.accept(l) })
	}
}

// accept takes connections until the listener is closed. Running out of file
// descriptors passes; the loop waits for it.
func (t *Transport) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err == nil {
			t.track(c)
			continue
		}
		if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		t.opt.Logger.Warn("accept peer connection", zap.Error(err))
		select {
		case <-t.ctx.Done():
		case <-time.After(t.opt.MaxBackoff):
		}
	}
}

// track serves a connection in its own goroutine and closes it with the
// transport.
func (t *Transport) track(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.spawnLocked(func() {
		// What a panic leaves behind is this connection's alone; serveConn has closed it.
		defer guard.Recover(t.opt.Logger, "peer connection", func(any) { c.Close() })
		t.serveConn(c)
	}) {
		c.Close()
		return
	}
	t.mu.conns[c] = struct{}{}
}

func (t *Transport) untrack(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.conns, c)
}

// serveConn finds out what a connection is.
func (t *Transport) serveConn(raw net.Conn) {
	tune(raw, t.opt.IdleTimeout)
	c := raw
	if t.opt.TLS != nil && t.opt.TLS.Server != nil {
		c = tls.Server(raw, t.opt.TLS.Server)
	}
	w := newWire(c, t.opt.IdleTimeout)
	if err := w.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		raw.Close()
		t.untrack(raw)
		return
	}
	start, err := w.r.Peek(len(magic))
	if err != nil || !bytes.Equal(start, magic[:]) {
		t.untrack(raw)
		if err != nil && len(start) == 0 {
			raw.Close()
			return
		}
		_ = w.SetReadDeadline(time.Time{})
		netlimit.Ready(raw) // from here on it has the HTTP server's own bounds
		t.handed.hand(w)
		return
	}
	defer t.untrack(raw)
	defer w.Close()
	_, _ = w.r.Discard(len(magic))
	if err := t.servePeer(raw, w); err != nil && !errors.Is(err, io.EOF) && t.ctx.Err() == nil {
		t.opt.Logger.Info("peer connection closed", zap.Stringer("address", w.RemoteAddr()), zap.Error(err))
	}
}

// handshake runs shake under a deadline, which leaves time for the probe of another start of the same peer.
func (t *Transport) handshake(w *wire, shake func() error) error {
	if err := w.SetDeadline(time.Now().Add(handshakeTimeout + 2*t.opt.ProbeTimeout)); err != nil {
		return err
	}
	if err := shake(); err != nil {
		return err
	}
	return w.SetDeadline(time.Time{})
}

// servePeer serves raft traffic until the connection ends.
func (t *Transport) servePeer(raw net.Conn, w *wire) error {
	var from handshake.Hello
	err := t.handshake(w, func() (err error) {
		from, err = handshake.Accept(w, t.party(), handshake.Raft, handshake.Snapshot)
		return err
	})
	if err != nil {
		return err
	}
	netlimit.Proven(raw)
	in, release := t.hear(from.Member)
	defer release()
	out := &answerer{wire: w}
	probe := out.probe
	if from.Purpose == handshake.Snapshot {
		probe = nil // its dialer reads nothing until all is sent
	}
	leave, ok := t.attach(from, w, probe)
	if !ok {
		return errors.New("the peer was started again meanwhile")
	}
	defer leave()
	if from.Purpose == handshake.Raft {
		in.raft.Add(1)
		if l := t.linked(from.Member); l != nil { // who is not in the book gets none: its id may be made up
			l.up()
		}
		defer t.left(from.Member, in)
	}
	conn := &peerConn{w: out, from: from, in: in}
	defer t.enter(conn)()
	return t.receive(conn)
}

// peerConn is a connection after the handshake.
type peerConn struct {
	w    *answerer
	from handshake.Hello
	in   *inbound
	// snapshot is the one that arrives over it.
	snapshot *intake
}

// enter counts a connection. Who has too many loses the oldest: it has lost them without notice.
func (t *Transport) enter(c *peerConn) (leave func()) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.mu.conns = append(c.in.mu.conns, c)
	// the oldest may be on its way out already
	for _, old := range c.in.mu.conns[:max(0, len(c.in.mu.conns)-maxConns)] {
		old.w.Close()
	}
	return func() {
		c.in.mu.Lock()
		c.in.mu.conns = slices.DeleteFunc(c.in.mu.conns, func(other *peerConn) bool { return other == c })
		c.in.mu.Unlock()
		if c.snapshot != nil {
			c.snapshot.end(errors.New("its connection ended"))
		}
	}
}

// receive takes frames until the connection ends.
func (t *Transport) receive(c *peerConn) error {
	w, from, in := c.w, c.from, c.in
	var buf []byte
	for {
		// The dialler pings, so silence means that it is gone.
		if err := w.SetReadDeadline(time.Now().Add(2 * t.opt.IdleTimeout)); err != nil {
			return err
		}
		k, payload, err := t.next(w.wire, from.Purpose, buf)
		if err != nil {
			return err
		}
		if err := t.handle(c, k, payload); err != nil {
			var rejected *RejectedError
			if errors.As(err, &rejected) {
				t.rejected(from.Member, in, rejected)
			}
			return err
		}
		in.bytes.Add(uint64(headerSize + len(payload)))
		if buf = payload; cap(buf) > keepBuffer {
			buf = nil
		}
	}
}

// left notes that a peer's connection ended; it may have been the last sign of it.
func (t *Transport) left(peer uint64, in *inbound) {
	if in.raft.Add(-1) == 0 && t.Gone(peer) {
		t.opt.Gone(peer)
	}
}

// next reads a frame. Raft batches carry pings between them; a snapshot is as
// slow as its sender's disk, so its connection has a long time.
func (t *Transport) next(w *wire, p handshake.Purpose, buf []byte) (kind, []byte, error) {
	if p == handshake.Snapshot {
		if err := w.SetReadDeadline(time.Now().Add(snapshotIdle)); err != nil {
			return 0, nil, err
		}
		return readFrame(w, buf, maxChunk)
	}
	return readFrame(w, buf, MaxFrame)
}

// answerer is an accepted connection, to which answers and probes are written.
type answerer struct {
	*wire
	mu sync.Mutex
}

func (a *answerer) send(k kind, payload []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wire.send(k, payload)
}

// probe asks the dialer for an answer with that number.
func (a *answerer) probe(_ *wire, number uint64) {
	_ = a.send(kindPing, binary.LittleEndian.AppendUint64(nil, number))
}

func (t *Transport) handle(c *peerConn, k kind, payload []byte) (err error) {
	w, from := c.w, c.from
	switch {
	case k == kindPing:
		if _, err := pingNumber(k, payload); err != nil {
			return err
		}
		return w.send(kindPong, payload)
	case k == kindPong:
		number, err := pingNumber(k, payload)
		t.starts.answered(number)
		return err
	case k == kindBatch && from.Purpose == handshake.Raft:
		return t.handleBatch(from, payload, c.in)
	case k == kindChunk && from.Purpose == handshake.Snapshot:
		c.snapshot, err = t.takeChunk(c.snapshot, from.Member, payload)
		return err
	case k == kindEnd && from.Purpose == handshake.Snapshot:
		if err := w.send(kindEndAck, nil); err != nil {
			return err
		}
		return io.EOF
	}
	return fmt.Errorf("%w: kind %d does not belong here", ErrBadFrame, k)
}

func (t *Transport) handleBatch(from handshake.Hello, payload []byte, in *inbound) error {
	batch, groups, strays, err := t.decodeBatch(payload, from.Member)
	if err != nil {
		return err
	}
	in.messages.Add(uint64(len(batch.Requests) + strays))
	t.strays.Add(uint64(strays))
	// The source address would be recorded in the registry, which has no use for it.
	batch.SourceAddress = ""
	now, taken := time.Now(), batch.Requests[:0]
	for i := range batch.Requests {
		fate, err := groups[i].history.admit(&batch.Requests[i], now)
		if err != nil {
			return err
		}
		m := &batch.Requests[i]
		if m.Type == pb.Propose && !in.proposals.admit(groups[i], m.ShardID, m.Entries, t.opt.Groups) {
			t.overdue.Add(1)
			continue
		}
		if fate == deliver {
			taken = append(taken, batch.Requests[i])
		}
	}
	batch.Requests = taken
	t.batches(batch)
	for i := range batch.Requests {
		if m := &batch.Requests[i]; m.Type == pb.TimeoutNow {
			t.opt.TakeOver(m.ShardID)
		}
	}
	return nil
}

// rejected counts a message that was not taken, and logs it unless that peer's were a moment ago.
func (t *Transport) rejected(peer uint64, in *inbound, err *RejectedError) {
	t.rejections[err.Reason].Add(1)
	now := time.Now().UnixNano()
	if last := in.rejected.Load(); now-last < int64(rejectedPause) || !in.rejected.CompareAndSwap(last, now) {
		return
	}
	t.opt.Logger.Error("a peer's message is not one that a member sends: its connection is closed and nothing of it "+
		"was taken",
		inHex("member", peer), zap.String("reason", err.Reason), zap.String("error", err.Text))
}

// inHex writes the id of a member as all else does that shows one.
func inHex(key string, id uint64) zap.Field { return zap.String(key, fmt.Sprintf("%x", id)) }
