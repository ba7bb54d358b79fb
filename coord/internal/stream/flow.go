package stream

import (
	"sync"

	"github.com/coord-dev/coord/coord/internal/limit"
)

// flow counts the requests of a stream that have no answer yet.
type flow struct {
	maxRequests, maxBytes int
	holder                *limit.Holder // of as much as requests and bytes, see cost

	// mu guards what follows. requests and bytes are those without an answer; the holder holds as much.
	mu              sync.Mutex
	room            sync.Cond // the receiver waits for it, alone
	requests, bytes int
	looking         bool // the holder's pool will call look when it has room again
	closed          bool
}

func newFlow(maxRequests, maxBytes int, holder *limit.Holder) *flow {
	f := &flow{maxRequests: maxRequests, maxBytes: maxBytes, holder: holder}
	f.room.L = &f.mu
	return f
}

// requestOverhead is what a request counts in memory beside its bytes: what follows it through the log, and its answer.
const requestOverhead = 256

func cost(requests, bytes int) int64 { return int64(bytes) + int64(requests)*requestOverhead }

// acquire waits for room for the requests of a frame; a lone frame fits whatever its size. False if the stream has
// ended.
func (f *flow) acquire(requests, bytes int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && !f.fits(requests, bytes) {
		f.room.Wait()
	}
	if f.closed {
		return false
	}
	f.requests += requests
	f.bytes += bytes
	return true
}

// fits reports whether there is room, by the stream's own limits and by the member's, and takes the member's. The
// caller holds the mutex, and waits if not: release tells, or whoever makes room elsewhere.
func (f *flow) fits(requests, bytes int) bool {
	if f.requests > 0 && (f.requests+requests > f.maxRequests || f.bytes+bytes > f.maxBytes) {
		return false
	}
	look := f.look
	if f.looking {
		look = nil
	}
	if f.holder.TakeOr(cost(requests, bytes), look) == nil {
		return true
	}
	f.looking = true
	return false
}

// look is for when others hold less than before.
func (f *flow) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looking = false
	f.room.Broadcast()
}

// release gives back what was answered.
func (f *flow) release(requests, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests -= requests
	f.bytes -= bytes
	if !f.closed {
		f.holder.Give(cost(requests, bytes))
	}
	f.room.Signal()
}

// idle reports whether everything was answered.
func (f *flow) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests == 0
}

func (f *flow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.holder.GiveAll()
	f.room.Broadcast()
}
