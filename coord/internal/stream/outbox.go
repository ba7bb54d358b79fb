package stream

import (
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/limit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/wire"
)

// The fields of a ServerFrame and of a Response, as they stand in stream.proto.
const (
	fieldResponses = 1
	fieldPushes    = 2
	fieldHeartbeat = 3
	fieldChannels  = 4
	fieldWelcome   = 5

	fieldSession  = 1
	fieldSequence = 2
	fieldOutcome  = 3

	fieldMessages = 3 // of a ChannelFrame
)

// maxFrame is the size from which on a frame takes nothing more, in bytes.
const maxFrame = 1 << 20

// outbox is what a stream has to tell its client and has not sent yet, already encoded. Whoever has something to tell
// appends it and never waits; the sender takes all there is as one frame.
type outbox struct {
	limit    int           // bytes from which on the client is behind
	holder   *limit.Holder // of as much as mu.bytes
	patience time.Duration // how long it may be
	slow     func()        // called when it was behind for too long
	wake     chan struct{} // has a token when there may be something to take

	mu struct {
		sync.Mutex
		room   sync.Cond   // signalled when the client is not behind any more, or the outbox is closed
		parts  []*outFrame // in the order in which they are sent; the last one is being filled
		bytes  int         // of parts, and of what was taken and is not written yet
		handed int         // of bytes: what was taken
		usual  int         // size of the responses in the last frame, as the next one's may be
		timer  *time.Timer // runs while the client is behind
		// hurried: the timer runs for less than patience, as the member holds too much for all clients.
		hurried bool
		looking bool // the holder's pool will call look when it has room again
		closed  bool
	}
}

// outFrame is a ServerFrame in the making. The client takes its fields in their order, so what must be taken after
// something of a later field goes into the next frame.
type outFrame struct {
	responses, pushes, channels, welcome []byte
	heartbeat                            uint64
	pushed                               map[int64]struct{} // sessions with pushes
}

// frameOverhead is what a frame counts beside its bytes: itself, and what gRPC makes of it.
const frameOverhead = 512

func (f *outFrame) size() int {
	return len(f.responses) + len(f.pushes) + len(f.channels) + len(f.welcome)
}

func (f *outFrame) cost() int { return f.size() + frameOverhead }

func newOutbox(limit int, holder *limit.Holder, patience time.Duration, slow func()) *outbox {
	o := &outbox{limit: limit, holder: holder, patience: patience, slow: slow, wake: make(chan struct{}, 1)}
	o.mu.room.L = &o.mu
	return o
}

// fill calls fn with the frame to append to, and tells the sender.
func (o *outbox) fill(fits func(*outFrame) bool, fn func(*outFrame)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.closed {
		return
	}
	var f *outFrame
	if n := len(o.mu.parts); n > 0 {
		f = o.mu.parts[n-1]
	}
	n := 0
	if f == nil || f.size() >= maxFrame || !fits(f) {
		f = &outFrame{}
		o.mu.parts = append(o.mu.parts, f)
		n = frameOverhead
	}
	before := f.size()
	fn(f)
	n += f.size() - before
	o.mu.bytes += n
	o.holder.Force(int64(n))
	o.watch(false)
	signal(o.wake)
}

// hurried is the patience with a client that holds more than its share while the member holds more than it may.
const hurried = time.Second

// behind reports whether nothing more is to be read of the client: it is behind by itself, or by more than its share of
// what waits for all clients. The caller holds the mutex.
func (o *outbox) behind() bool { return o.mu.bytes >= o.limit || o.holder.Greedy(nil) }

// watch runs the timer while the client is behind; sent says that it has just read something. Pushes and the outcomes
// of what is under way cannot be held back, so a client that is behind by as much again is given up at once.
func (o *outbox) watch(sent bool) {
	if !o.behind() {
		if o.mu.timer != nil {
			o.mu.timer.Stop()
			o.mu.timer, o.mu.hurried = nil, false
		}
		return
	}
	over := o.holder.Over()
	patience := o.patience
	if over {
		patience = min(patience, hurried)
	}
	switch {
	case o.mu.timer == nil:
		o.mu.timer, o.mu.hurried = time.AfterFunc(patience, o.giveUp), over
	case o.mu.bytes >= 2*o.limit, o.holder.FarOver():
		o.mu.timer.Reset(0)
	case sent || over && !o.mu.hurried:
		o.mu.timer.Reset(patience)
		o.mu.hurried = over
	}
}

func (o *outbox) giveUp() {
	o.holder.Refused()
	o.slow()
}

// answer is the outcome of one request.
type answer struct {
	sequence uint64
	outcome  []byte // coordv1.Outcome
}

// respond appends responses of one session, 0 for none. What was pushed of the session about is taken before.
func (o *outbox) respond(session, about int64, answers ...answer) {
	fits := func(f *outFrame) bool { _, pushed := f.pushed[about]; return !pushed }
	o.fill(fits, func(f *outFrame) {
		if f.responses == nil && len(o.mu.parts) == 1 { // of more that wait each would hold room that does not count
			f.responses = make([]byte, 0, o.mu.usual)
		}
		for _, a := range answers {
			f.responses = appendResponse(f.responses, session, a)
		}
	})
}

func appendResponse(b []byte, session int64, a answer) []byte {
	size := protowire.SizeTag(fieldSession) + protowire.SizeVarint(uint64(session)) +
		protowire.SizeTag(fieldSequence) + protowire.SizeVarint(a.sequence) +
		protowire.SizeTag(fieldOutcome) + protowire.SizeBytes(len(a.outcome))
	b = protowire.AppendTag(b, fieldResponses, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = wire.AppendVarint(b, fieldSession, uint64(session))
	b = wire.AppendVarint(b, fieldSequence, a.sequence)
	return wire.AppendBytes(b, fieldOutcome, a.outcome)
}

// push appends news of a session.
func (o *outbox) push(p *coordv1.Push) {
	encoded := encode(p)
	o.fill(anyFrame, func(f *outFrame) {
		f.pushes = wire.AppendBytes(f.pushes, fieldPushes, encoded)
		if f.pushed == nil {
			f.pushed = map[int64]struct{}{}
		}
		f.pushed[p.Session] = struct{}{}
	})
}

// heartbeat appends the answer to a heartbeat; a later one in the same frame answers for those before.
func (o *outbox) heartbeat(number uint64) {
	o.fill(anyFrame, func(f *outFrame) { f.heartbeat = number })
}

func (o *outbox) channel(c *coordv1.ChannelFrame) {
	encoded := encode(c)
	o.fill(anyFrame, func(f *outFrame) { f.channels = wire.AppendBytes(f.channels, fieldChannels, encoded) })
}

func (o *outbox) welcome(w *coordv1.Welcome) {
	encoded := encode(w)
	o.fill(anyFrame, func(f *outFrame) { f.welcome = wire.AppendBytes(f.welcome, fieldWelcome, encoded) })
}

func anyFrame(*outFrame) bool { return true }

// encode marshals a message of ours. It cannot fail, as all strings in it are valid.
func encode(m proto.Message) []byte {
	b, _ := proto.Marshal(m)
	return b
}

// take returns the next frame, nil if there is none.
func (o *outbox) take() *outFrame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.mu.parts) == 0 || o.mu.closed {
		return nil
	}
	f := o.mu.parts[0]
	o.mu.parts[0] = nil
	o.mu.parts = o.mu.parts[1:]
	o.mu.handed += f.cost()
	o.mu.usual = len(f.responses)
	return f
}

// encoded is the frame's encoding.
func (f *outFrame) encoded() (parts [][]byte) {
	parts = make([][]byte, 0, 5)
	add := func(part []byte) {
		if len(part) > 0 {
			parts = append(parts, part)
		}
	}
	add(f.responses)
	add(f.pushes)
	if f.heartbeat != 0 {
		add(wire.AppendVarint(nil, fieldHeartbeat, f.heartbeat))
	}
	add(f.channels)
	add(f.welcome)
	return parts
}

// written gives back what frames cost that were taken.
func (o *outbox) written(cost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.bytes -= cost
	o.mu.handed -= cost
	o.holder.Give(int64(cost))
	if o.mu.closed {
		return
	}
	o.watch(true)
	if !o.behind() {
		o.mu.room.Broadcast()
	}
}

// greedy reports whether the client holds too much for others to go on; then look is called when that may have changed.
func (o *outbox) greedy() bool {
	look := o.look
	if o.mu.looking {
		look = nil
	}
	greedy := o.holder.Greedy(look)
	o.mu.looking = o.mu.looking || greedy
	return greedy
}

// look is for when others hold less than before.
func (o *outbox) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.looking = false
	if !o.mu.closed {
		o.watch(false)
	}
	o.mu.room.Broadcast()
}

// wait waits until the client is not behind; false if the outbox is closed.
func (o *outbox) wait() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.mu.closed && (o.mu.bytes >= o.limit || o.greedy()) {
		o.mu.room.Wait()
	}
	return !o.mu.closed
}

// empty reports whether everything was written.
func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.mu.parts) == 0 && o.mu.bytes == 0
}

// close drops what is left. What was taken counts until it is written.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.closed, o.mu.parts = true, nil
	o.holder.Give(int64(o.mu.bytes - o.mu.handed))
	o.mu.bytes = o.mu.handed
	if o.mu.timer != nil {
		o.mu.timer.Stop()
	}
	o.mu.room.Broadcast()
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func appendLength(b []byte, n int) []byte { return protowire.AppendVarint(b, uint64(n)) }
