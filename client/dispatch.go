package client

import (
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// read takes over what the server sends until the link ends.
func (t *transport) read(l *link) error {
	for {
		f, err := l.stream.Recv()
		if err != nil {
			return fromWire(err)
		}
		t.take(l, f)
	}
}

// take takes over one frame, in the order of its fields.
func (t *transport) take(l *link, f *coordv1.ServerFrame) {
	t.lock()
	defer t.unlock()
	for _, r := range f.Responses {
		l.worked = true
		box := &t.mu.plain
		if r.Session != 0 {
			s := t.mu.sessions[r.Session]
			if s == nil {
				continue // it ended
			}
			box = &s.box
		}
		t.answered(box, r)
		if len(box.queue) > 0 {
			t.list(box) // the window may have moved
		}
	}
	for _, p := range f.Pushes {
		if s := t.mu.sessions[p.Session]; s != nil {
			t.pushed(s, p)
		}
	}
	if f.Heartbeat > 0 {
		t.renewed(l, f.Heartbeat)
	}
	for _, c := range f.Channels {
		if ch := t.mu.channels[c.Id]; ch != nil {
			ch.take(c)
		}
	}
	for i := range t.mu.lanes {
		if t.mu.lanes[i].mayGo() {
			signal(t.kick)
			return
		}
	}
}

// renewed takes over the answer to a heartbeat: the sessions that were attached when it was sent live on from that
// instant.
func (t *transport) renewed(l *link, number uint64) {
	l.worked = true
	var last beat
	for len(l.beats) > 0 && l.beats[0].number <= number {
		last, l.beats = l.beats[0], l.beats[1:]
	}
	if last.number == 0 {
		return
	}
	for _, s := range t.mu.sessions {
		if s.attached && s.attachedAt < last.number {
			s.renew(last.sent, s.deadline.ttl)
		}
	}
	t.mu.patience = 0
}

// pushed takes over news of a session.
func (t *transport) pushed(s *Session, p *coordv1.Push) {
	switch e := p.Event.(type) {
	case *coordv1.Push_Granted:
		s.entryGranted(e.Granted)
	case *coordv1.Push_Lost:
		s.entryLost(e.Lost)
	case *coordv1.Push_Requeued:
		s.entryRequeued(e.Requeued)
	case *coordv1.Push_Asked:
		s.releaseAsked(e.Asked)
	case *coordv1.Push_SessionLost:
		if e.SessionLost.Cause == coordv1.SessionLost_MOVED {
			t.end(s, ErrSessionElsewhere)
		} else {
			t.end(s, fmt.Errorf("%w: the server ended it", ErrSessionExpired))
		}
	}
}
