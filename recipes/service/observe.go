package service

import (
	"bytes"
	"context"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// maxObserved is how many changes an observer may be behind before it gets the last one and the notice of a gap.
const maxObserved = 256

// observer is one Observe stream. Its fields are guarded by its line.
type observer struct {
	events []*coordv1.ObserveEvent // not sent yet
	last   recipes.Entry           // of the newest event
	begun  bool
	gap    bool          // events were dropped
	wake   chan struct{} // capacity 1
}

// watch registers an observer and gives it the state as it is.
func (l *line) watch() *observer {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &observer{wake: make(chan struct{}, 1)}
	l.observers[o] = struct{}{}
	if !l.loading {
		o.push(l.head(), l.rev, false)
	}
	return o
}

func (l *line) unwatch(o *observer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.observers, o)
}

// tellObservers tells everybody the state of this revision, if it is news.
func (l *line) tellObservers(gap bool) {
	for o := range l.observers {
		o.push(l.head(), l.rev, gap)
	}
}

func (o *observer) push(head recipes.Entry, rev int64, gap bool) {
	gap = gap && o.begun
	same := o.begun && o.last.Key == head.Key && o.last.Token == head.Token && bytes.Equal(o.last.Value, head.Value)
	if same && !gap {
		return
	}
	if len(o.events) == maxObserved {
		o.events, o.gap = o.events[:0], true
	}
	ev := &coordv1.ObserveEvent{Revision: rev, Gap: gap || o.gap}
	if head.Key != "" {
		ev.Leader = protoEntry(head)
	}
	o.events, o.last, o.begun, o.gap = append(o.events, ev), head, true, false
	o.nudge()
}

func (o *observer) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns what has not been sent yet.
func (l *line) take(o *observer) ([]*coordv1.ObserveEvent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := o.events
	o.events = nil
	if len(events) > 0 {
		return events, nil
	}
	return nil, l.err
}

// observe sends the state and every change of it until ctx ends.
func (s *Service) observe(ctx context.Context, name string, send func(*coordv1.ObserveEvent) error) error {
	if err := recipes.CheckName(name); err != nil {
		return err
	}
	if err := s.backend.ReadIndex(ctx); err != nil {
		return err
	}
	l, release, err := s.open(name)
	if err != nil {
		return err
	}
	defer release()
	o := l.watch()
	defer l.unwatch(o)
	for {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errStopped
		}
		events, err := l.take(o)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if err := send(ev); err != nil {
				return err
			}
		}
	}
}
