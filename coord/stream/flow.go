package stream

import "sync"

// flow counts the requests of a stream that have no answer yet.
type flow struct {
	maxRequests, maxBytes int

	mu              sync.Mutex
	room            sync.Cond
	requests, bytes int
	closed          bool
}

func newFlow(maxRequests, maxBytes int) *flow {
	f := &flow{maxRequests: maxRequests, maxBytes: maxBytes}
	f.room.L = &f.mu
	return f
}

// acquire waits for room for the requests of a frame; a lone frame fits whatever its size. False if the stream has ended.
func (f *flow) acquire(requests, bytes int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && f.requests > 0 && (f.requests+requests > f.maxRequests || f.bytes+bytes > f.maxBytes) {
		f.room.Wait()
	}
	f.requests += requests
	f.bytes += bytes
	return !f.closed
}

// release gives back what was answered.
func (f *flow) release(requests, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests -= requests
	f.bytes -= bytes
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
	f.room.Broadcast()
}
