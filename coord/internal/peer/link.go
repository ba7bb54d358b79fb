package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/handshake"
)

// link is the connection for raft messages to one peer. Its goroutine keeps it
// connected; senders never see an error.
type link struct {
	t    *Transport
	peer uint64
	// redial is signalled when the peer's address changed.
	redial chan struct{}
	// hurry is signalled when the peer is known to be up: it came to us.
	hurry chan struct{}
	// tried is true once an attempt failed and until one succeeds: messages do
	// not wait for such a peer.
	tried atomic.Bool
	// gone is true while the latest attempt found nobody at the peer's address.
	gone  atomic.Bool
	stats linkStats

	// out is held while a frame is written; it is taken before mu.
	out struct {
		sync.Mutex
		buf []byte
	}
	mu struct {
		sync.Mutex
		w *wire // nil while down
		// up is closed when w is set and replaced when it is cleared.
		up chan struct{}
		// shards were sent to over this link and are told when it breaks.
		shards map[uint64]struct{}
	}
}

func newLink(t *Transport, peer uint64) *link {
	l := &link{t: t, peer: peer, redial: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
	l.mu.up = make(chan struct{})
	l.mu.shards = make(map[uint64]struct{})
	return l
}

// run keeps the link connected until ctx ends.
func (l *link) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		if !l.addressed(ctx) {
			return
		}
		start := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		l.tried.Store(true)
		l.judge(err)
		if time.Since(start) > settled {
			backoff = minBackoff
		}
		pause := l.pause(err, backoff)
		backoff = min(2*backoff, l.t.opt.MaxBackoff)
		select {
		case <-ctx.Done():
		case <-l.redial:
			backoff = minBackoff
		case <-l.hurry:
			backoff = minBackoff
		case <-time.After(pause):
		}
	}
}

// up says that the peer is there: a pause between two attempts ends, and messages
// wait for the connection.
func (l *link) up() {
	l.tried.Store(false)
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// judge notes whether the peer's process has ended, for all that can be seen.
func (l *link) judge(err error) {
	nobody := errors.Is(err, errNobodyThere)
	was := l.gone.Swap(nobody)
	if nobody && !was && l.t.Gone(l.peer) {
		l.t.opt.Gone(l.peer)
	}
}

// addressed waits until the book has an address for the peer.
func (l *link) addressed(ctx context.Context) bool {
	for len(l.t.opt.Book.Addrs(l.peer)) == 0 {
		l.tried.Store(true)
		select {
		case <-ctx.Done():
			return false
		case <-l.redial:
		}
	}
	return true
}

// pause reports the failure and returns how long to wait before the next try.
func (l *link) pause(err error, backoff time.Duration) time.Duration {
	var refused *handshake.RefusedError
	if errors.As(err, &refused) {
		if l.stats.refused.Add(1) == 1 {
			l.t.opt.Logger.Warn("peer connection refused", zap.Error(err))
		}
		l.t.opt.Refused(refused)
		return refusedBackoff
	}
	return backoff/2 + rand.N(backoff/2)
}

// session dials, shakes hands and serves the connection until it breaks.
func (l *link) session(ctx context.Context) error {
	w, leave, err := l.t.connect(ctx, l.peer, handshake.Raft, l.probe)
	if err != nil {
		return err
	}
	defer leave()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	l.set(w)
	l.t.opt.Admitted(l.peer)
	l.t.opt.Logger.Info("peer connected", inHex("member", l.peer), zap.Stringer("address", w.RemoteAddr()))
	err = l.watch(ctx, w)
	l.lost(w)
	l.t.opt.Logger.Info("peer connection lost", inHex("member", l.peer), zap.Error(err))
	return err
}

func (l *link) set(w *wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.w = w
	l.tried.Store(false)
	l.gone.Store(false)
	l.stats.connects.Add(1)
	select {
	case <-l.hurry: // it is there
	default:
	}
	close(l.mu.up)
}

// lost takes w out of use and tells raft, once per connection.
func (l *link) lost(w *wire) {
	w.Close()
	l.mu.Lock()
	if l.mu.w != w {
		l.mu.Unlock()
		return
	}
	l.mu.w = nil
	l.mu.up = make(chan struct{})
	shards := l.mu.shards
	l.mu.shards = make(map[uint64]struct{})
	l.mu.Unlock()
	l.t.unreachable(l.peer, shards)
}

// watch pings the peer and reads its answers; it returns when the connection
// broke, the peer fell silent, or its address changed.
func (l *link) watch(ctx context.Context, w *wire) error {
	answers := make(chan error, 1)
	var pong atomic.Int64
	pong.Store(time.Now().UnixNano())
	go func() {
		defer guard.Recover(l.t.opt.Logger, "peer pongs", func(cause any) { answers <- guard.Status(cause) })
		answers <- l.readPongs(w, &pong)
	}()
	defer func() { w.Close(); <-answers }()
	tick := time.NewTicker(l.t.opt.IdleTimeout / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.redial:
			if !l.t.stillAt(l.peer, w.RemoteAddr()) {
				return errors.New("address changed")
			}
		case err := <-answers:
			answers <- err
			return err
		case <-tick.C:
			if time.Since(time.Unix(0, pong.Load())) > l.t.opt.IdleTimeout {
				return errors.New("pings unanswered")
			}
			if err := l.ping(w); err != nil {
				return err
			}
		}
	}
}

func (l *link) ping(w *wire) error {
	l.stats.pinged.Store(time.Now().UnixNano())
	return l.control(w, kindPing, 0)
}

// probe asks the peer for an answer with that number.
func (l *link) probe(w *wire, number uint64) { _ = l.control(w, kindPing, number) }

// control sends a ping or a pong.
func (l *link) control(w *wire, k kind, number uint64) error {
	l.out.Lock()
	defer l.out.Unlock()
	return w.sendNumber(k, number)
}

// readPongs reads the peer's answers, and answers its probes.
func (l *link) readPongs(w *wire, pong *atomic.Int64) error {
	for {
		k, number, err := readNumber(w)
		if err != nil {
			return err
		}
		switch {
		case k == kindPing:
			if err := l.control(w, kindPong, number); err != nil {
				return err
			}
		case number != 0:
			l.t.starts.answered(number)
		default:
			now := time.Now().UnixNano()
			pong.Store(now)
			l.stats.rtt.Store(now - l.stats.pinged.Load())
		}
	}
}

// send delivers the batch or drops it.
func (l *link) send(ctx context.Context, batch pb.MessageBatch) {
	l.t.prepare(&batch)
	if len(batch.Requests) == 0 {
		return
	}
	w := l.await(ctx)
	if w == nil {
		l.stats.dropped.Add(uint64(len(batch.Requests)))
		return
	}
	l.note(batch)
	for part := range parts(batch) {
		n, err := l.write(w, part)
		if err != nil {
			l.stats.failed.Add(uint64(len(part.Requests)))
			l.lost(w)
			return
		}
		l.stats.sentBytes.Add(uint64(n))
		l.stats.sent.Add(uint64(len(part.Requests)))
	}
}

// write encodes the batch into the link's buffer and sends it.
func (l *link) write(w *wire, batch pb.MessageBatch) (int, error) {
	l.out.Lock()
	defer l.out.Unlock()
	buf := l.out.buf
	if size := batch.SizeUpperLimit(); cap(buf) < size {
		buf = make([]byte, size)
	}
	if cap(buf) <= keepBuffer {
		l.out.buf = buf
	}
	payload := pb.MustMarshalTo(&batch, buf[:cap(buf)])
	return headerSize + len(payload), w.send(kindBatch, payload)
}

// await returns the connection, after waiting a moment for one that is about to
// come up, or nil.
func (l *link) await(ctx context.Context) *wire {
	l.mu.Lock()
	up, w := l.mu.up, l.mu.w
	l.mu.Unlock()
	if w != nil || l.tried.Load() {
		return w
	}
	timer := time.NewTimer(l.t.opt.Patience)
	defer timer.Stop()
	select {
	case <-up:
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.w
}

// note remembers the shards of a batch, to tell them when the link breaks.
func (l *link) note(batch pb.MessageBatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range batch.Requests {
		l.mu.shards[batch.Requests[i].ShardID] = struct{}{}
	}
}
