package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func TestElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		e := c.Election("boss")
		if _, err := e.Leader(t.Context()); !errors.Is(err, ErrNoLeader) {
			t.Errorf("no leader: %v", err)
		}
		first, err := e.Campaign(t.Context(), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := e.Leader(t.Context()); err != nil || l.Term != first.Term() || l.Key != first.Key() ||
			string(l.Value) != "a" {
			t.Errorf("%+v, %v", l, err)
		}
		if err := first.Proclaim(t.Context(), []byte("a2")); err != nil {
			t.Error(err)
		}
		if _, err := e.TryCampaign(t.Context(), []byte("b")); !errors.Is(err, ErrNotAcquired) {
			t.Errorf("try: %v", err)
		}
		if err := first.Resign(t.Context()); err != nil {
			t.Error(err)
		}
		if err := first.Proclaim(t.Context(), []byte("late")); !errors.Is(err, ErrReleased) {
			t.Errorf("proclaim after resign: %v", err)
		}
		_ = c.Close()
	})
}

// TestTransfer: the leader's term is over, with the reason; a candidate that is put behind another goes on waiting.
func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		leader, err := c.Election("boss").Campaign(t.Context(), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		won := make(chan *Leadership)
		waiter := open(t, c)
		go func() {
			l, err := waiter.Election("boss").Campaign(t.Context(), []byte("b"))
			if err != nil {
				t.Error(err)
			}
			won <- l
		}()
		synctest.Wait()
		var token int64
		f.set(func() { // as if somebody had transferred past it
			e := f.queues["boss"][1]
			old := e.token
			f.revision += 10
			e.token, token = f.revision, f.revision
			e.push(&coordv1.Push{Event: &coordv1.Push_Requeued{Requeued: &coordv1.Requeued{Name: "boss", Key: e.key,
				OldToken: old, Token: e.token}}})
		})
		synctest.Wait()
		if err := leader.Transfer(t.Context(), f.queue("boss")[1]); err != nil {
			t.Fatal(err)
		}
		if err := leader.Err(); !errors.Is(err, ErrLost) || !errors.Is(err, ErrTransferred) {
			t.Errorf("%v", err)
		}
		l := <-won
		if l.Term() != token {
			t.Errorf("term %d, want %d", l.Term(), token)
		}
		if err := l.Resign(t.Context()); err != nil || len(f.queue("boss")) != 0 {
			t.Errorf("%v, queue %v", err, f.queue("boss"))
		}
		_ = c.Close()
	})
}

// TestRun: it campaigns again after each loss, never before fn has returned, and ends when fn returns while it leads.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		terms, running := 0, false
		var last int64
		bad := errors.New("bad")
		err := c.Election("boss").Run(t.Context(), []byte("a"), func(ctx context.Context, term *Leadership) error {
			if running || term.Term() <= last {
				t.Errorf("running %v, term %d after %d", running, term.Term(), last)
			}
			running, last = true, term.Term()
			defer func() { running = false }()
			switch terms++; terms {
			case 1:
				f.delete(term.Key())
			case 2:
				f.expire(term.Session().id)
			case 3:
				return bad
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrLost) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			time.Sleep(time.Second) // it takes its time to stop
			return errors.New("stopped")
		})
		if err != bad || terms != 3 || len(f.queue("boss")) != 0 {
			t.Errorf("%v after %d terms, queue %v", err, terms, f.queue("boss"))
		}
		err = c.Election("boss").Run(t.Context(), []byte("a"), func(ctx context.Context, term *Leadership) error {
			f.delete(term.Key())
			<-ctx.Done()
			return nil
		}, WithOneTerm())
		if !errors.Is(err, ErrLost) || !errors.Is(err, ErrRemoved) {
			t.Errorf("once: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = c.Election("boss").Run(ctx, []byte("a"), func(ctx context.Context, _ *Leadership) error {
			cancel()
			<-ctx.Done()
			return nil
		})
		if err != nil || len(f.queue("boss")) != 0 {
			t.Errorf("context ended: %v, queue %v", err, f.queue("boss"))
		}
		_ = c.Close()
	})
}

// TestCancelledCandidateIsFollowed: a transfer gives a candidate another token while it is being removed by the old
// one.
func TestCancelledCandidateIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		leader, err := open(t, c).Election("boss").Campaign(t.Context(), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		releases := 0
		f.refuse = func(r *coordv1.Request) *coordv1.Refusal {
			if r.Kind != coordv1.Kind_KIND_RELEASE {
				return nil
			}
			if releases++; releases == 1 {
				e := f.queues["boss"][1]
				f.revision++
				old := e.token
				e.token = f.revision
				e.push(&coordv1.Push{Event: &coordv1.Push_Requeued{Requeued: &coordv1.Requeued{Name: "boss", Key: e.key,
					OldToken: old, Token: e.token}}})
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := open(t, c).Election("boss").Campaign(ctx, []byte("b")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if q := f.queue("boss"); len(q) != 1 || q[0] != leader.Key() || releases != 2 {
			t.Errorf("queue %v after %d releases", q, releases)
		}
		_ = c.Close()
	})
}
