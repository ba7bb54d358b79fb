package service

import (
	"context"
	"fmt"
	"math"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

const maxGrace = time.Minute

// request is an acquire or a campaign.
type request struct {
	recipesv1.Enqueue
	enqueueBy, removeBy string        // procedures
	wait                time.Duration // 0: for ever
	grace               time.Duration
}

// newRequest checks what the procedures do not.
func newRequest(waitMS, graceMS int64) (*request, error) {
	switch {
	case waitMS < 0:
		return nil, fmt.Errorf("%w: wait_ms %d is negative", statemachine.ErrInvalid, waitMS)
	case graceMS < 0 || graceMS > maxGrace.Milliseconds():
		return nil, fmt.Errorf("%w: grace_ms %d is not between 0 and %d", statemachine.ErrInvalid, graceMS, maxGrace.Milliseconds())
	}
	return &request{
		wait:  time.Duration(min(waitMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		grace: time.Duration(graceMS) * time.Millisecond,
	}, nil
}

// listener is told what becomes of a request, in this order: queued at most once, then granted or notAcquired, then lost;
// lost may come at any point. An error of one ends the request.
type listener interface {
	queued(*coordv1.Queued) error
	granted(*coordv1.Granted) error
	notAcquired(*coordv1.NotAcquired) error
	lost(*coordv1.Lost) error
}

// acquire enqueues and waits until the request is over: not acquired, lost, or its client gone. If stay is false it is
// over when granted, too.
func (s *Service) acquire(ctx context.Context, r *request, to listener, stay bool) error {
	e, err := s.enqueue(ctx, r)
	switch {
	case err != nil:
		return err
	case e.Token == 0 && r.ResumeToken != 0:
		return to.lost(s.lostEvent(r.Lease, e.revision, false))
	case e.Token == 0:
		return s.tellNotAcquired(ctx, r.Name, to)
	}
	w := &waiting{service: s, request: r, entry: e, to: to}
	kept, err := w.run(ctx, stay)
	if !kept && s.ctx.Err() == nil {
		s.giveUp(r, e.Enqueued)
	}
	return err
}

// tellNotAcquired answers a try that found somebody else.
func (s *Service) tellNotAcquired(ctx context.Context, name string, to listener) error {
	queue, rev, err := s.queue(ctx, name)
	if err != nil {
		return err
	}
	resp := &coordv1.NotAcquired{Revision: rev}
	if len(queue) > 0 {
		resp.Holder = protoEntry(queue[0])
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

// waiting is a request with an entry.
type waiting struct {
	service *Service
	request *request
	entry   enqueued
	to      listener
}

// run waits. kept says that the entry needs no clean-up: the client knows that it has it, or it is gone, or another's.
func (w *waiting) run(ctx context.Context, stay bool) (kept bool, err error) {
	if w.entry.Holds && !stay {
		return w.tellGranted(ctx, w.entry.revision)
	}
	l, release, err := w.service.open(w.request.Name)
	if err != nil {
		return false, err
	}
	defer release()
	t := newTicket(w.entry.Key, w.entry.Token, w.entry.Claim)
	l.join(t, w.entry.Holds)
	defer l.leave(t)
	over, kept, err := w.untilGranted(ctx, l, t)
	if over || err != nil {
		return kept, err
	}
	_, _, rev := l.place(w.entry.Token)
	if kept, err = w.tellGranted(ctx, max(rev, w.entry.revision)); err != nil || !stay {
		return kept, err
	}
	select {
	case <-t.ended:
		return true, w.ended(t, true)
	case <-ctx.Done():
		return true, ctx.Err()
	case <-w.service.ctx.Done():
		return true, errStopped
	}
}

// untilGranted waits for the grant; over means that there will be none.
func (w *waiting) untilGranted(ctx context.Context, l *line, t *ticket) (over, kept bool, err error) {
	select {
	case <-t.granted:
		return false, false, nil
	default:
	}
	if err := w.tellQueued(l); err != nil {
		return true, false, err
	}
	var expired <-chan time.Time
	if w.request.wait > 0 {
		timer := time.NewTimer(w.request.wait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-t.granted:
		return false, false, nil
	case <-t.ended:
		return true, t.end == nil || t.end == errSuperseded, w.ended(t, false)
	case <-expired:
		kept, err := w.expire(ctx, l)
		return true, kept, err
	case <-ctx.Done():
		return true, false, ctx.Err()
	case <-w.service.ctx.Done():
		return true, false, errStopped
	}
}

// ended tells the client that its entry is gone.
func (w *waiting) ended(t *ticket, held bool) error {
	if t.end != nil {
		return t.end
	}
	return w.to.lost(w.service.lostEvent(w.request.Lease, t.endRev, held))
}

// expire removes the entry first, whether it was granted meanwhile or not, and then answers.
func (w *waiting) expire(ctx context.Context, l *line) (kept bool, err error) {
	outcome, rev, err := w.service.remove(ctx, w.request, w.entry.Enqueued)
	switch {
	case err != nil:
		return false, err
	case outcome == recipesv1.Removed_SUPERSEDED:
		return true, errSuperseded
	case outcome == recipesv1.Removed_GONE:
		return true, w.to.lost(w.service.lostEvent(w.request.Lease, rev, false))
	}
	_, holder, _ := l.place(w.entry.Token)
	resp := &coordv1.NotAcquired{Revision: rev}
	if holder.Key != "" && holder.Key != w.entry.Key {
		resp.Holder = protoEntry(holder)
	}
	return true, w.to.notAcquired(resp)
}

func (w *waiting) tellQueued(l *line) error {
	ahead, holder, rev := l.place(w.entry.Token)
	resp := &coordv1.Queued{Key: w.entry.Key, Token: w.entry.Token, Position: max(1, ahead), Revision: max(rev, w.entry.revision)}
	if holder.Key != "" && holder.Key != w.entry.Key {
		resp.Holder = protoEntry(holder)
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

func protoEntry(e recipes.Entry) *coordv1.Entry {
	return &coordv1.Entry{Key: e.Key, Token: e.Token, Lease: e.Lease, OwnerId: e.OwnerID, Value: e.Value}
}
