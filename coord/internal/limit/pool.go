package limit

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Pool is what all clients of a member may hold of one kind of thing. Safe for concurrent use. A nil pool has no bound.
type Pool struct {
	name  string // what is counted, for people: "watchers"
	bound int64  // bytes
	hint  string // what a client that is refused can do

	refused atomic.Uint64

	// mu is taken last: nothing is called under it.
	mu struct {
		sync.Mutex
		used    int64
		holders int64    // those that hold anything
		waiting []func() // to be called once when used has fallen to half of the bound
	}
}

// NewPool makes a pool of bound bytes.
func NewPool(name string, bound int64, hint string) *Pool {
	return &Pool{name: name, bound: bound, hint: hint}
}

// Holder makes a holder, which holds nothing.
func (p *Pool) Holder() *Holder {
	if p == nil {
		return nil
	}
	return &Holder{pool: p}
}

// Used is what all hold, in bytes.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.used
}

// share is what a holder may hold when half of the bound is used. The caller holds the mutex.
func (p *Pool) share(holders int64) int64 { return p.bound / 2 / max(holders, 1) }

// Holder is one client's part of a pool. Safe for concurrent use. A nil holder may hold everything.
type Holder struct {
	pool *Pool
	held int64 // guarded by the pool's mutex
}

// Full is the refusal of what a holder asked for. It names the limit, what was asked, and what to do.
type Full struct {
	Limit                           string
	Asked, Held, Share, Used, Bound int64
	Hint                            string
}

func (f *Full) Error() string {
	return fmt.Sprintf("too many %s: this member holds %d of at most %d bytes of them for all of its clients, and %d "+
		"for this one, whose share is %d; %d more were asked for: %s",
		f.Limit, f.Used, f.Bound, f.Held, f.Share, f.Asked, f.Hint)
}

// Take takes n bytes more, or returns a *Full. A pool that is empty has room for anything.
func (h *Holder) Take(n int64) error { return h.TakeOr(n, nil) }

// TakeOr is Take, and where there is no room fn, if it is not nil, is called once, on another goroutine, when something
// was given back and not more than half of the bound is used: then it is worth to try again.
func (h *Holder) TakeOr(n int64, fn func()) error {
	if h == nil {
		return nil
	}
	p := h.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	holders := p.mu.holders
	if h.held == 0 {
		holders++
	}
	share := p.share(holders)
	used := p.mu.used + n
	if p.mu.used == 0 || used <= p.bound/2 || used <= p.bound && h.held+n <= share {
		h.add(n)
		return nil
	}
	p.refused.Add(1)
	p.wait(fn)
	return &Full{Limit: p.name, Asked: n, Held: h.held, Share: share, Used: p.mu.used, Bound: p.bound, Hint: p.hint}
}

// TakeSpare takes n bytes more of a quarter beyond the bound, which is kept for what is small.
func (h *Holder) TakeSpare(n int64) bool {
	if h == nil {
		return true
	}
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	if h.pool.mu.used+n > h.pool.bound+h.pool.bound/4 {
		return false
	}
	h.add(n)
	return true
}

// Force takes n bytes more in any case: for what is there already.
func (h *Holder) Force(n int64) {
	if h == nil {
		return
	}
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.add(n)
}

// Give gives n bytes back.
func (h *Holder) Give(n int64) {
	if h == nil || n == 0 {
		return
	}
	h.pool.mu.Lock()
	h.add(-n)
	woken := h.pool.wake()
	h.pool.mu.Unlock()
	run(woken)
}

// GiveAll gives everything back.
func (h *Holder) GiveAll() {
	if h == nil {
		return
	}
	h.pool.mu.Lock()
	h.add(-h.held)
	woken := h.pool.wake()
	h.pool.mu.Unlock()
	run(woken)
}

func (h *Holder) add(n int64) {
	before := h.held
	h.held += n
	h.pool.mu.used += n
	switch {
	case before == 0 && h.held != 0:
		h.pool.mu.holders++
	case before != 0 && h.held == 0:
		h.pool.mu.holders--
	}
}

// Greedy reports whether more than half of the pool is used and this one holds more than its share: it has to wait.
// Then fn, if it is not nil, is called as TakeOr says.
func (h *Holder) Greedy(fn func()) bool { return h.exceeds(1, fn) }

// Over reports whether more than the bound is used and this one holds more than its share: it has to go. Farther over
// is twice the bound: it has to go at once.
func (h *Holder) Over() bool    { return h.exceeds(2, nil) }
func (h *Holder) FarOver() bool { return h.exceeds(4, nil) }

// exceeds is about so many halves of the bound.
func (h *Holder) exceeds(halves int64, fn func()) bool {
	if h == nil {
		return false
	}
	p := h.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.used <= halves*p.bound/2 || h.held <= p.share(p.mu.holders) {
		return false
	}
	p.wait(fn)
	return true
}

// Refused counts a refusal that was decided by Greedy or Over.
func (h *Holder) Refused() {
	if h != nil {
		h.pool.refused.Add(1)
	}
}

// wait has fn called by the next wake that finds room. The caller holds the mutex.
func (p *Pool) wait(fn func()) {
	if fn != nil {
		p.mu.waiting = append(p.mu.waiting, fn)
	}
}

// wake returns whom to call. The caller holds the mutex.
func (p *Pool) wake() []func() {
	if p.mu.used > p.bound/2 {
		return nil
	}
	woken := p.mu.waiting
	p.mu.waiting = nil
	return woken
}

// run calls them elsewhere: who gives back may hold a mutex that they want.
func run(woken []func()) {
	if len(woken) > 0 {
		go func() {
			for _, fn := range woken {
				fn()
			}
		}()
	}
}
