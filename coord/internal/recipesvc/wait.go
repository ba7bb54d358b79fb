package recipesvc

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

const maxGrace = time.Minute

// acquisition is what enqueues: an acquire, a campaign, a party's enter.
type acquisition struct {
	recipesv1.Enqueue
	queue               string
	enqueueBy, removeBy string        // procedures
	wait                time.Duration // 0: for ever
	grace               time.Duration
}

// newAcquisition checks what the procedures do not.
func newAcquisition(waitMS, graceMS int64) (*acquisition, error) {
	switch {
	case waitMS < 0:
		return nil, fmt.Errorf("%w: wait_ms %d is negative", statemachine.ErrInvalid, waitMS)
	case graceMS < 0 || graceMS > maxGrace.Milliseconds():
		return nil, fmt.Errorf("%w: grace_ms %d is not between 0 and %d", statemachine.ErrInvalid, graceMS,
			maxGrace.Milliseconds())
	}
	return &acquisition{
		wait:  time.Duration(min(waitMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		grace: time.Duration(graceMS) * time.Millisecond,
	}, nil
}

// listener is told what becomes of an acquisition, in this order: queued at most once, then granted or notAcquired,
// then lost; lost may come at any point. An error of one ends it.
type listener interface {
	queued(*coordv1.Queued) error
	granted(*coordv1.Granted) error
	notAcquired(*coordv1.NotAcquired) error
	lost(*coordv1.Lost) error
}

// acquire enqueues and waits until the acquisition is over: not acquired, lost, or its client gone. If stay is false it
// is over when granted, too.
func (s *Service) acquire(ctx context.Context, a *acquisition, to listener, stay bool) error {
	t := s.newTicket(a)
	defer t.Close()
	e, err := s.enqueue(ctx, a)
	switch {
	case err != nil:
		return err
	case e.Token == 0 && a.ResumeToken != 0:
		return to.lost(s.lostEvent(a.Lease, e.revision, false))
	case e.Token == 0:
		return s.tellNotAcquired(ctx, a.queue, to)
	}
	w := &waiting{service: s, acquisition: a, entry: e, ticket: t, to: to}
	kept, err := w.run(ctx, stay)
	if !kept && s.ctx.Err() == nil {
		s.giveUp(a, e.Enqueued)
	}
	return err
}

// tellNotAcquired answers a try that found somebody else.
func (s *Service) tellNotAcquired(ctx context.Context, of string, to listener) error {
	queue, rev, err := s.queue(ctx, of)
	if err != nil {
		return err
	}
	resp := &coordv1.NotAcquired{Revision: rev}
	if holder, ok := queue.Holder(); ok {
		resp.Holder = holder.Proto()
	}
	return to.notAcquired(resp)
}

func (s *Service) lostEvent(lease statemachine.LeaseID, rev statemachine.Revision, held bool) *coordv1.Lost {
	reason := coordv1.Lost_REASON_REMOVED
	if !s.backend.LeaseAlive(lease) {
		reason = coordv1.Lost_REASON_SESSION_ENDED
	}
	return &coordv1.Lost{Reason: reason, Revision: rev, Held: held}
}

// ticket is a ticket of package mirror whose news come through channels.
type ticket struct {
	*mirror.Ticket
	granted chan mirror.Event // capacity 1
	ended   chan mirror.Event // capacity 1: the last news
}

func (s *Service) newTicket(a *acquisition) *ticket {
	t := &ticket{granted: make(chan mirror.Event, 1), ended: make(chan mirror.Event, 1)}
	t.Ticket = s.backend.Mirrors.Track(layout.EntryKey(a.queue, a.Lease, a.OwnerId), func(ev mirror.Event) {
		switch ev.News {
		case mirror.Granted:
			t.granted <- ev
		case mirror.Lost, mirror.Superseded, mirror.Failed:
			t.ended <- ev
		case mirror.Requeued, mirror.Asked: // candidates without a session are not moved, and cannot be told who asks
		}
	})
	return t
}

// waiting is an acquisition with an entry.
type waiting struct {
	service     *Service
	acquisition *acquisition
	entry       enqueued
	ticket      *ticket
	to          listener
}

// run waits. kept says that the entry needs no clean-up: the client knows that it has it, or it is gone, or another's.
func (w *waiting) run(ctx context.Context, stay bool) (kept bool, err error) {
	revision := w.entry.revision
	if w.entry.Holds {
		w.ticket.Holds(w.entry.Token)
	} else {
		w.ticket.Waits(w.entry.Token, w.entry.Claim)
		ev, over, kept, err := w.untilGranted(ctx)
		if over || err != nil {
			return kept, err
		}
		revision = max(revision, ev.Revision)
	}
	if kept, err = w.tellGranted(ctx, revision); err != nil || !stay {
		return kept, err
	}
	select {
	case ev := <-w.ticket.ended:
		return true, w.ended(ev)
	case <-ctx.Done():
		return true, ctx.Err()
	case <-w.service.ctx.Done():
		return true, errStopped
	}
}

// untilGranted waits for the grant; over means that there will be none.
func (w *waiting) untilGranted(ctx context.Context) (ev mirror.Event, over, kept bool, err error) {
	if err := w.tellQueued(ctx); err != nil {
		return ev, true, false, err
	}
	var expired <-chan time.Time
	if w.acquisition.wait > 0 {
		timer := time.NewTimer(w.acquisition.wait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case ev := <-w.ticket.granted:
		return ev, false, false, nil
	case ev := <-w.ticket.ended:
		return ev, true, ev.News != mirror.Failed, w.ended(ev)
	case <-expired:
		kept, err := w.expire(ctx)
		return ev, true, kept, err
	case <-ctx.Done():
		return ev, true, false, ctx.Err()
	case <-w.service.ctx.Done():
		return ev, true, false, errStopped
	}
}

// ended tells the client that its entry is gone.
func (w *waiting) ended(ev mirror.Event) error {
	switch ev.News {
	case mirror.Superseded:
		return errSuperseded
	case mirror.Failed:
		return ev.Err
	}
	return w.to.lost(w.service.lostEvent(w.acquisition.Lease, ev.Revision, ev.Held))
}

// expire removes the entry first, whether it was granted meanwhile or not, and then answers.
func (w *waiting) expire(ctx context.Context) (kept bool, err error) {
	outcome, rev, err := w.service.remove(ctx, w.acquisition, w.entry.Enqueued)
	switch {
	case err != nil:
		return false, err
	case outcome == recipesv1.Removed_SUPERSEDED:
		return true, errSuperseded
	case outcome == recipesv1.Removed_GONE:
		return true, w.to.lost(w.service.lostEvent(w.acquisition.Lease, rev, false))
	}
	resp := &coordv1.NotAcquired{Revision: rev}
	if _, holder, _, err := w.ticket.Position(ctx); err == nil && holder.Key != "" && holder.Key != w.entry.Key {
		resp.Holder = holder.Proto()
	}
	return true, w.to.notAcquired(resp)
}

// tellQueued tells the client its position, unless it has been granted meanwhile.
func (w *waiting) tellQueued(ctx context.Context) error {
	ahead, holder, rev, err := w.ticket.Position(ctx)
	if err != nil {
		return err
	}
	if len(w.ticket.granted) > 0 {
		return nil
	}
	if w.acquisition.Parties == 0 {
		ahead = max(1, ahead) // whom it waits for may have gone meanwhile; who waits for those to come may be the first
	}
	resp := &coordv1.Queued{
		Key: w.entry.Key, Token: w.entry.Token, Position: ahead, Revision: max(rev, w.entry.revision),
	}
	if holder.Key != "" && holder.Key != w.entry.Key {
		resp.Holder = holder.Proto()
	}
	return w.to.queued(resp)
}

// tellGranted tells the client, if it is still there.
func (w *waiting) tellGranted(ctx context.Context, rev statemachine.Revision) (kept bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := w.to.granted(&coordv1.Granted{Key: w.entry.Key, Token: w.entry.Token, Revision: rev}); err != nil {
		return false, err
	}
	return true, nil
}
