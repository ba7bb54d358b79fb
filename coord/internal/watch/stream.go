package watch

import (
	"sync"
	"time"

	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/statemachine"
)

// response is one WatchResponse on its way to a client.
type response struct {
	id        int64
	revision  statemachine.Revision // of the header
	created   bool
	canceled  bool
	compacted statemachine.Revision
	reason    string

	events   []*event // encoded for prev
	prev     bool
	fragment bool

	size  int  // what it counts in the stream's buffer
	claim bool // it answers a request: sending it returns the request's slot
}

// responseOverhead is what a response counts beyond its events, in bytes: itself, its header, and what gRPC makes of
// it.
const responseOverhead = 512

// maxRequests is how many requests of one stream may be unanswered before the receiver stops reading.
const maxRequests = 128

// stream is a client's watch stream. The fields above out belong to the hub goroutine.
type stream struct {
	// charged holds what the stream's watchers cost, pending what its responses do that wait for the client.
	charged, pending *limit.Holder

	watchers map[int64]*watcher
	notify   map[int64]*watcher // those that want progress notifications
	parked   []*watcher         // may hold watchers that are gone
	nextID   int64
	closed   bool // nothing is created any more

	broken chan struct{} // closed when the stream cannot be served
	slow   chan struct{} // closed when it is ended because its client does not read
	ending bool          // slow is closed
	roomy  func()        // has the hub look at the stream again, for there is room for events of all

	limit int           // bytes of responses beyond which no event is accepted
	wake  chan struct{} // holds a token while out may have something to send
	slots chan struct{} // holds a token for each unanswered request
	out   struct {
		sync.Mutex
		queue  []response
		bytes  int  // of queue, and of what was taken and is not written yet
		handed int  // of bytes: what gRPC has
		full   bool // an offer was refused since half of the limit was last reached from above
		// waits: an offer was refused because of what all streams hold; roomy will be called.
		waits  bool
		moved  time.Time // when the client last took something, or began to have to
		closed bool
	}
}

func newStream(limit int, memory *limit.Member) *stream {
	return &stream{
		charged:  memory.Watchers.Holder(),
		pending:  memory.Events.Holder(),
		watchers: make(map[int64]*watcher),
		notify:   make(map[int64]*watcher),
		broken:   make(chan struct{}),
		slow:     make(chan struct{}),
		limit:    limit,
		wake:     make(chan struct{}, 1),
		slots:    make(chan struct{}, maxRequests),
	}
}

// offer queues a response unless the buffer is full or the stream is shut.
func (s *stream) offer(r response) bool {
	s.out.Lock()
	defer s.out.Unlock()
	if s.out.closed {
		return false
	}
	if s.out.bytes >= s.limit || !s.fits(r) {
		s.out.full = true
		return false
	}
	s.append(r)
	return true
}

// smallResponse is the size up to which a client that waits for nothing gets a response from what is kept spare for
// such.
const smallResponse = 16 << 10

// fits takes room for a response from what all streams may hold. The caller holds the mutex.
func (s *stream) fits(r response) bool {
	roomy := s.roomy
	if s.out.waits {
		roomy = nil
	}
	if s.pending.TakeOr(int64(r.size), roomy) == nil {
		return true
	}
	s.out.waits = s.out.waits || s.roomy != nil
	return s.out.bytes == 0 && r.size <= smallResponse && s.pending.TakeSpare(int64(r.size))
}

// ended reports whether the stream was ended because its client does not read.
func (s *stream) ended() bool {
	select {
	case <-s.slow:
		return true
	default:
		return false
	}
}

// room is told when others hold less. It reports whether the hub has to look at the stream.
func (s *stream) room() bool {
	s.out.Lock()
	defer s.out.Unlock()
	s.out.waits = false
	was := s.out.full
	s.out.full = s.out.bytes > s.limit/2
	return was && !s.out.full
}

// stalled reports whether something waits for the client, and whether it has taken nothing for so long that it may be
// ended.
func (s *stream) stalled(now time.Time, patience time.Duration) (holds, stalled bool) {
	s.out.Lock()
	defer s.out.Unlock()
	holds = s.out.bytes > 0
	return holds, holds && now.Sub(s.out.moved) > patience
}

// push queues a response in any case; the number of those is bounded by the requests of the client, see
// watchCall.admitted.
func (s *stream) push(r response) {
	s.out.Lock()
	defer s.out.Unlock()
	if !s.out.closed {
		s.pending.Force(int64(r.size))
	}
	s.append(r)
}

func (s *stream) append(r response) {
	if s.out.closed {
		return
	}
	if s.out.bytes == 0 {
		s.out.moved = time.Now()
	}
	s.out.queue = append(s.out.queue, r)
	s.out.bytes += r.size
	if len(s.out.queue) == 1 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// full reports whether an event was refused and the client has not read enough since.
func (s *stream) full() bool {
	s.out.Lock()
	defer s.out.Unlock()
	return s.out.full
}

// take returns everything queued; its bytes count until written is told. spare is memory for what comes next.
func (s *stream) take(spare []response) []response {
	s.out.Lock()
	defer s.out.Unlock()
	taken := s.out.queue
	s.out.queue = spare[:0]
	return taken
}

// hand notes that gRPC gets so many bytes of what was taken.
func (s *stream) hand(bytes int) {
	s.out.Lock()
	defer s.out.Unlock()
	s.out.handed += bytes
}

// written gives back bytes that gRPC had and reports whether the stream has just stopped being full.
func (s *stream) written(bytes int) bool {
	s.out.Lock()
	defer s.out.Unlock()
	s.out.bytes -= bytes
	s.out.handed -= bytes
	s.pending.Give(int64(bytes))
	s.out.moved = time.Now()
	if !s.out.full || s.out.bytes > s.limit/2 {
		return false
	}
	s.out.full = false
	return true
}

// shut drops what is queued and returns how many events that was. Nothing is queued afterwards. What gRPC has counts
// until it is written.
func (s *stream) shut() (events int) {
	s.out.Lock()
	defer s.out.Unlock()
	s.out.closed = true
	s.pending.Give(int64(s.out.bytes - s.out.handed))
	s.out.bytes = s.out.handed
	for _, r := range s.out.queue {
		events += len(r.events)
	}
	s.out.queue = nil
	return events
}
