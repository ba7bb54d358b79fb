package recipesvc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// tell tells a client what becomes of an acquisition, in this order: Queued at most once, then Granted or NotAcquired,
// then Lost; Lost may come at any point. An error of it ends the acquisition.
type tell func(*coordv1.AcquireEvent) error

func (to tell) queued(ev *coordv1.Queued) error {
	return to(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Queued{Queued: ev}})
}

func (to tell) granted(ev *coordv1.Granted) error {
	return to(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Granted{Granted: ev}})
}

func (to tell) notAcquired(ev *coordv1.NotAcquired) error {
	return to(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_NotAcquired{NotAcquired: ev}})
}

func (to tell) lost(ev *coordv1.Lost) error {
	return to(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Lost{Lost: ev}})
}

// acquire answers an Acquire: it goes on until the entry is lost, or the client goes.
func (s *Service) acquire(a *acquisition, stream grpc.ServerStreamingServer[coordv1.AcquireEvent]) error {
	return wireError(s.follows(stream.Context(), a, stream.Send, true))
}

// try answers a TryAcquire, once.
func (s *Service) try(ctx context.Context, a *acquisition) (*coordv1.TryAcquireResponse, error) {
	resp := &coordv1.TryAcquireResponse{}
	err := s.follows(ctx, a, func(ev *coordv1.AcquireEvent) error {
		resp.Granted, resp.NotAcquired = ev.GetGranted(), ev.GetNotAcquired()
		if lost := ev.GetLost(); lost != nil {
			// A waiter that was removed by somebody else did not acquire; one whose session died is told so.
			if lost.Reason == coordv1.Lost_REASON_SESSION_ENDED {
				return statemachine.ErrLeaseNotFound
			}
			resp.NotAcquired = &coordv1.NotAcquired{Revision: lost.Revision}
		}
		return nil
	}, false)
	if err != nil {
		return nil, wireError(err)
	}
	return resp, nil
}

// follows enqueues and waits until the acquisition is over: not acquired, lost, or its client gone. If stay is false it
// is over when granted, too.
func (s *Service) follows(ctx context.Context, a *acquisition, to tell, stay bool) error {
	if err := a.check(); err != nil {
		return err
	}
	t := s.newTicket(a)
	defer t.Close()
	e, err := s.enqueue(ctx, a)
	switch {
	case err != nil:
		return err
	case e.State != coordv1.AcquiredEntry_NONE:
	case a.request.GetResumeToken() != 0:
		return to.lost(s.lostEvent(a, e.claim, false))
	default:
		return to.notAcquired(&coordv1.NotAcquired{Holder: e.Holder, Revision: e.claim})
	}
	w := &waiting{service: s, acquisition: a, entry: e, ticket: t, to: to}
	kept, err := w.run(ctx, stay)
	if !kept && s.ctx.Err() == nil {
		s.giveUp(a, e)
	}
	return err
}

func (s *Service) lostEvent(a *acquisition, rev statemachine.Revision, held bool) *coordv1.Lost {
	reason := coordv1.Lost_REASON_REMOVED
	if !s.backend.LeaseAlive(a.request.GetLease()) {
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
	key := layout.EntryKey(a.queue(), a.request.GetLease(), a.request.GetOwnerId())
	t.Ticket = s.backend.Mirrors.Track(key, func(ev mirror.Event) {
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
	entry       made
	ticket      *ticket
	to          tell
}

// run waits. kept says that the entry needs no clean-up: the client knows that it has it, or it is gone, or another's.
func (w *waiting) run(ctx context.Context, stay bool) (kept bool, err error) {
	revision := w.entry.claim
	if w.entry.State == coordv1.AcquiredEntry_HOLDS {
		w.ticket.Holds(w.entry.Token)
	} else {
		w.ticket.Waits(w.entry.Token, w.entry.claim)
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
	if wait := w.acquisition.wait(); wait > 0 {
		timer := time.NewTimer(wait)
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
		return recipes.ErrSuperseded
	case mirror.Failed:
		return ev.Err
	}
	return w.to.lost(w.service.lostEvent(w.acquisition, ev.Revision, ev.Held))
}

// expire removes the entry first, whether it was granted meanwhile or not, and then answers.
func (w *waiting) expire(ctx context.Context) (kept bool, err error) {
	removed, rev, err := w.service.remove(ctx, w.entry)
	switch {
	case err != nil:
		return errors.Is(err, recipes.ErrSuperseded), err
	case !removed:
		return true, w.to.lost(w.service.lostEvent(w.acquisition, rev, false))
	}
	resp := &coordv1.NotAcquired{Revision: rev}
	if _, holder, _, err := w.ticket.Position(ctx); err == nil {
		resp.Holder = w.other(holder)
	}
	return true, w.to.notAcquired(resp)
}

// other describes who holds, if that is somebody else.
func (w *waiting) other(holder recipes.Entry) *coordv1.Entry {
	if holder.Key == "" || holder.Key == w.entry.Key {
		return nil
	}
	return entryOf(w.acquisition.kind, holder)
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
	if w.acquisition.kind != coordv1.QueueKind_QUEUE_BARRIER {
		ahead = max(1, ahead) // whom it waits for may have gone meanwhile; who waits for those to come may be the first
	}
	return w.to.queued(&coordv1.Queued{
		Key: w.entry.Key, Token: w.entry.Token, Position: ahead, Holder: w.other(holder),
		Revision: max(rev, w.entry.claim),
	})
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
