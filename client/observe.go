package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Observation is a state of an election.
type Observation struct {
	Leader   Leader // Term 0: nobody leads
	Revision int64  // of the change
	// Gap: changes between the observation before and this one may be missing.
	Gap bool
}

// Observe yields the state and then every change of leader or value, in the one order all observers see, until ctx ends
// or the loop is left. After a broken connection it goes on with the state as it is then, with Gap set. The only errors
// are those of ctx and refusals by the server; an error is the last thing it yields.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Observation, error] {
	return func(yield func(Observation, error) bool) {
		o := &observing{election: e, yield: yield}
		for pause := minPause; ; pause = min(2*pause, maxPause) {
			before := o.seen
			err := o.channel(ctx)
			switch {
			case err == nil:
				return
			case ctx.Err() != nil:
				yield(Observation{}, cause(ctx))
				return
			case errors.Is(err, ErrClosed):
				yield(Observation{}, ErrClosed)
				return
			case !errors.Is(err, io.EOF) && status.Code(err) != codes.Unavailable:
				yield(Observation{}, fmt.Errorf("observe election %q: %w", e.name, err))
				return
			}
			if o.seen > before {
				pause = minPause
			}
			sleep(ctx, pause)
		}
	}
}

// observing is one Observe over all its channels.
type observing struct {
	election *Election
	yield    func(Observation, error) bool
	seen     int // observations so far
}

// channel observes over one channel; nil means that the loop was left.
func (o *observing) channel(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := o.election
	m, err := openMessages[coordv1.ObserveRequest, coordv1.ObserveEvent](ctx, e.client.t,
		coordv1.ChannelKind_CHANNEL_OBSERVE)
	if err != nil {
		return err
	}
	if err := m.Send(&coordv1.ObserveRequest{Name: e.name, Priority: e.priority}); err == nil {
		_ = m.CloseSend()
	}
	for again := o.seen > 0; ; again = false {
		ev, err := m.Recv()
		if err != nil {
			return err
		}
		o.seen++
		if !o.yield(Observation{Leader: leaderOf(ev.Leader), Revision: ev.Revision, Gap: ev.Gap || again}, nil) {
			return nil
		}
	}
}
