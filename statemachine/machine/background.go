package machine

import (
	"context"
	"sync"
	"time"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// compactor removes history that a compaction made unreachable, a bounded step at a time with pauses between, beside
// the apply and the readers. It derives its work from the rows alone: a crash in the middle costs nothing.
type compactor struct {
	m      *Machine
	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{}
	gone   chan struct{}

	mu   sync.Mutex
	done statemachine.Revision // physical removal is complete up to here
	grew chan struct{}         // closed and replaced when done grows
}

const (
	compactStep  = 1000 // changes in one step
	compactPause = 5 * time.Millisecond
)

func startCompactor(m *Machine) *compactor {
	c := &compactor{m: m, kick: make(chan struct{}, 1), gone: make(chan struct{}), grew: make(chan struct{}), done: -1}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	c.wake() // a removal may have been cut off by the last stop
	return c
}

func (c *compactor) stop() {
	c.cancel()
	<-c.gone
}

func (c *compactor) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// restart begins anew, on a database that replaced the one before.
func (c *compactor) restart() {
	c.mu.Lock()
	c.done = -1
	c.mu.Unlock()
	c.wake()
}

func (c *compactor) run() {
	defer close(c.gone)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.kick:
		}
		if err := c.compact(); err != nil && c.ctx.Err() == nil {
			c.m.log.Warn("removing compacted history; it goes on with the next compaction", zapError(err))
		}
	}
}

// compact removes everything below the compacted revision as published now.
func (c *compactor) compact() error {
	view, err := c.m.View()
	if err != nil {
		return err
	}
	rev, db := view.Compacted(), view.db
	view.Close()
	for from := int64(0); rev > 0; {
		if from, err = c.step(rev, from); err != nil {
			return err
		}
		if from == 0 {
			break
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(compactPause):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if rev > c.done && c.m.store.db() == db { // a database that replaced it may hold anything still
		c.done = rev
		close(c.grew)
		c.grew = make(chan struct{})
	}
	return nil
}

// step does one bounded step on the database that is current now.
func (c *compactor) step(rev, from statemachine.Revision) (next statemachine.Revision, err error) {
	view, err := c.m.View()
	if err != nil {
		return 0, err
	}
	defer view.Close()
	b := view.db.NewBatch()
	next, err = mvcc.CompactStep(view.rows(), min(rev, view.Compacted()), from, compactStep, b)
	if err != nil {
		return 0, err
	}
	if b.Count() == 0 {
		return next, b.Close()
	}
	return next, c.m.store.commitBatch(b)
}

// CompactionDone returns a channel that is closed once the physical removal below rev is complete, or the machine
// closes.
func (m *Machine) CompactionDone(rev statemachine.Revision) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			m.compactor.mu.Lock()
			done, grew := m.compactor.done >= rev, m.compactor.grew
			m.compactor.mu.Unlock()
			if done {
				return
			}
			select {
			case <-grew:
			case <-m.compactor.gone:
				return
			}
		}
	}()
	return out
}

// flusher makes what was applied durable from time to time, so that a restart replays little.
type flusher struct {
	cancel context.CancelFunc
	gone   chan struct{}
}

func startFlusher(m *Machine) *flusher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &flusher{cancel: cancel, gone: make(chan struct{})}
	go func() {
		defer close(f.gone)
		ticker := time.NewTicker(m.opts.FlushInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := m.store.flush(); err != nil {
				m.log.Warn("flushing the store in the background", zapError(err))
			}
		}
	}()
	return f
}

func (f *flusher) stop() {
	f.cancel()
	<-f.gone
}
