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

	lines *Lines
	line  *line
	wake  chan struct{} // capacity 1
	// What follows is guarded by the line.
	events []*coordv1.ObserveEvent // not taken yet
	last   recipes.Entry           // of the newest event
	begun  bool
	gap    bool // events were dropped
}

// Observe returns an observer, whose first event is the state as it is. The caller closes it.
func (ls *Lines) Observe(queue string) *Observer {
	wake := make(chan struct{}, 1)
	o := &Observer{Wake: wake, wake: wake, lines: ls}
	ls.mu.Lock()
	o.line = ls.open(queue)
	ls.mu.Unlock()
	o.line.watch(o)
	return o
}

// Close ends the observation.
func (o *Observer) Close() {
	o.line.mu.Lock()
	delete(o.line.observers, o)
	o.line.mu.Unlock()
	o.lines.leave(o.line)
}

// watch registers an observer and gives it the state as it is.
func (l *line) watch(o *Observer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.observers[o] = struct{}{}
	switch {
	case l.err != nil:
		o.nudge()
	case !l.loading:
		o.push(l.holder(), l.rev, false)
	}
}

// tellObservers tells everybody the state of this revision, if it is news.
func (l *line) tellObservers(gap bool) {
	for o := range l.observers {
		o.push(l.holder(), l.rev, gap)
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
	o.line.mu.Lock()
	defer o.line.mu.Unlock()
	events := o.events
	o.events = nil
	if len(events) > 0 {
		return events, nil
	}
	return nil, o.line.err
}
