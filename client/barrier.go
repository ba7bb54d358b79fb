package client

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Barrier is a double barrier: its parties wait for each other to begin, and again to end. It holds no state. Safe for
// concurrent use; several goroutines of one session can be parties.
type Barrier struct {
	recipe
	name    string
	parties int64
}

// Barrier returns the barrier of that name for so many parties, >= 1, entered through the client's shared session; see
// Lock.
func (c *Client) Barrier(name string, parties int64) *Barrier {
	return &Barrier{recipe{client: c}, name, parties}
}

// Barrier returns the barrier of that name for so many parties, entered through this session.
func (s *Session) Barrier(name string, parties int64) *Barrier {
	return &Barrier{recipe{s.client, s}, name, parties}
}

// Party is a party that has entered, with all others. Guards and KV say that it is inside still. Lost, Release: for the
// others it has left, and nobody waits for them. Safe for concurrent use.
type Party struct{ Held }

// Enter waits until all parties are there, alive, at one revision; who was there and died is not one of them. The error
// is one of Lock.Acquire, ErrBarrierFull if the barrier is open with others, or ErrPartiesMismatch.
//
// A party counts for as long as the servers have its session. If the shared session is lost, Enter waits in the next
// one until they have the last one no more: so that no party is two. Who opens sessions must see to that, as must a
// process that was started again.
func (b *Barrier) Enter(ctx context.Context, opts ...BarrierOption) (*Party, error) {
	o := ofAcquire(b.client, opts)
	c, err := b.recipe.acquire(ctx, coordv1.Kind_KIND_BARRIER_ENTER, b.name, o, func(owner string) proto.Message {
		return &coordv1.BarrierEnter{Name: b.name, OwnerId: owner, Owner: o.owner, Labels: o.labels, Parties: b.parties}
	})
	if err != nil {
		return nil, err
	}
	return &Party{Held{Grant{c}, false}}, nil
}

// Describe returns what the barrier is and who is there.
func (b *Barrier) Describe(ctx context.Context) (BarrierState, error) {
	resp, err := b.describe(ctx, coordv1.QueueKind_QUEUE_BARRIER, b.name)
	if err != nil {
		return BarrierState{}, fmt.Errorf("describe barrier %q: %w", b.name, err)
	}
	info := resp.GetBarrier()
	return BarrierState{
		Queue: queueOf(resp), Generation: info.GetGeneration(), Parties: info.GetParties(), Arrived: info.GetArrived(),
		Open: info.GetOpen(),
	}, nil
}

// Leave leaves, and waits until all who are inside have left or died. It can be repeated: if ctx ended while it waited,
// the party has left. The error wraps ErrLost if we had been lost, and so left, before.
func (p *Party) Leave(ctx context.Context) error {
	if err := p.leave(ctx); err != nil {
		return fmt.Errorf("leave %s: %w", p.what(), err)
	}
	return nil
}

func (p *Party) leave(ctx context.Context) error {
	var ours *coordv1.BarrierState // of our generation, as long as that is not over
	for update, err := range p.s.client.WatchKey(ctx, p.stateKey()) {
		if err != nil {
			return err
		}
		state, err := barrierState(update)
		if err != nil {
			return err
		}
		if ours == nil { // before we leave, it shows the generation that we are in
			if err := p.release(ctx); err != nil {
				return err
			}
			ours = state
			if p.Token() < state.First || p.Token() > state.Last {
				return nil
			}
		}
		if !state.Open || state.Generation != ours.Generation {
			return nil
		}
	}
	return nil
}

// stateKey is the key of the barrier's state, which stands beside its parties.
func (p *Party) stateKey() string {
	queue, _ := layout.QueueOfKey(p.Key())
	return layout.RecordKey(queue, layout.State)
}

// barrierState is the state after an update; the zero value if it was deleted.
func barrierState(u Update) (*coordv1.BarrierState, error) {
	state := &coordv1.BarrierState{}
	kvs := u.KVs
	if !u.Resync {
		kvs = append(kvs, u.Events[len(u.Events)-1].Kv)
	}
	if len(kvs) == 0 {
		return state, nil
	}
	if err := proto.Unmarshal(kvs[0].Value, state); err != nil {
		return nil, fmt.Errorf("state of the barrier: %w", err)
	}
	return state, nil
}

// Delete deletes what a barrier at which nobody is keeps, the number of its generation, and reports whether there was
// anything. ErrBarrierFull.
func (b *Barrier) Delete(ctx context.Context) (bool, error) {
	return b.remove(ctx, coordv1.DeleteObjectRequest_BARRIER, b.name)
}
