package mirror

import (
	"bytes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// maxObserved is how many changes an observer may be behind before it gets the last one and the notice of a gap.
const maxObserved = 256

// Observer hears of every change of who holds in a queue, and of its value. It is for one goroutine.
type Observer struct {
	// Wake is sent to when Take has something to return.
	Wake <-chan struct{}

	mirrors *Mirrors
	mirror  *queueMirror
	wake    chan struct{} // capacity 1
	// What follows is guarded by the mirror.
	events []*coordv1.ObserveEvent // not taken yet
	last   recipes.Entry           // of the newest event
	begun  bool
	gap    bool // events were dropped
}

// Observe returns an observer, whose first event is the state as it is. The caller closes it.
func (ms *Mirrors) Observe(queue string) *Observer {
	wake := make(chan struct{}, 1)
	o := &Observer{Wake: wake, wake: wake, mirrors: ms}
	ms.mu.Lock()
	o.mirror = ms.open(queue)
	ms.mu.Unlock()
	o.mirror.watch(o)
	return o
}

// Close ends the observation.
func (o *Observer) Close() {
	o.mirror.mu.Lock()
	delete(o.mirror.observers, o)
	o.mirror.mu.Unlock()
	o.mirrors.leave(o.mirror)
}

// watch registers an observer and gives it the state as it is.
func (m *queueMirror) watch(o *Observer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observers[o] = struct{}{}
	switch {
	case m.err != nil:
		o.nudge()
	case !m.loading:
		o.push(m.holder(), m.rev, false)
	}
}

// tellObservers tells everybody the state of this revision, if it is news.
func (m *queueMirror) tellObservers(gap bool) {
	for o := range m.observers {
		o.push(m.holder(), m.rev, gap)
	}
}

func (o *Observer) push(head recipes.Entry, rev int64, gap bool) {
	gap = gap && o.begun
	same := o.begun && o.last.Key == head.Key && o.last.Token == head.Token && o.last.Foreign == head.Foreign &&
		bytes.Equal(o.last.Value, head.Value)
	if same && !gap {
		return
	}
	if len(o.events) == maxObserved {
		o.events, o.gap = o.events[:0], true
	}
	ev := &coordv1.ObserveEvent{Revision: rev, Gap: gap || o.gap}
	if head.Key != "" {
		ev.Leader = head.Proto()
	}
	o.events, o.last, o.begun, o.gap = append(o.events, ev), head, true, false
	o.nudge()
}

func (o *Observer) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Take returns what has not been taken yet. An error says why nothing more will come.
func (o *Observer) Take() ([]*coordv1.ObserveEvent, error) {
	o.mirror.mu.Lock()
	defer o.mirror.mu.Unlock()
	events := o.events
	o.events = nil
	if len(events) > 0 {
		return events, nil
	}
	return nil, o.mirror.err
}
