package recipesvc

import (
	"context"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/coord/internal/mirror"
	"github.com/coord-dev/coord/statemachine"
)

// follower is told what stands in a range of keys. It is over when it says so or fails.
type follower interface {
	// whole tells all there is at a revision: first, and again where changes were missed.
	whole(rev statemachine.Revision, kvs []*mvccpb.KeyValue) (over bool, err error)
	// changed tells the changes of one later revision, in order.
	changed(rev statemachine.Revision, events []*mvccpb.Event) (over bool, err error)
}

// follow tells to what stands in [key, end), or at key if end is nil, beginning with a state that shows all that was
// committed before the call, until it is over, ctx ends or the member stops. to runs on the goroutine of the caller,
// who may be slow.
func (s *Service) follow(ctx context.Context, key, end []byte, to follower) error {
	if err := s.backend.ReadIndex(ctx); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	f := &feed{wake: make(chan struct{}, 1), gap: true}
	_, cancel, err := s.backend.Subscribe(ctx, key, end, f.deliver)
	if err != nil {
		return fmt.Errorf("subscribe to %q: %w", key, err)
	}
	defer cancel()
	seen := statemachine.Revision(0)
	for {
		list, gap := f.take()
		if gap {
			kvs, rev, err := s.read(ctx, key, end)
			if err != nil {
				return err
			}
			seen = rev
			if over, err := to.whole(rev, kvs); over || err != nil {
				return err
			}
		}
		for _, d := range list {
			if d.Revision <= seen {
				continue // the state that was read shows it
			}
			if over, err := to.changed(d.Revision, plain(d.Events)); over || err != nil {
				return err
			}
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errStopped
		}
	}
}

// plain are the events without what was before.
func plain(events []statemachine.Event) []*mvccpb.Event {
	list := make([]*mvccpb.Event, len(events))
	for i, e := range events {
		list[i] = &mvccpb.Event{Type: e.Type, Kv: e.Kv}
	}
	return list
}

// maxFed is how many revisions a follower may be behind before it is told the whole state instead.
const maxFed = 1024

// feed passes deliveries from the hub's goroutine, which must not wait, to the one of a follower.
type feed struct {
	wake chan struct{} // capacity 1: there is something to take

	mu   sync.Mutex
	list []mirror.Delivery // after the gap, if there is one
	gap  bool
}

func (f *feed) deliver(d mirror.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case d.Gap || len(f.list) == maxFed:
		// The state that is read later shows this delivery, too.
		f.list, f.gap = nil, true
	default:
		f.list = append(f.list, d)
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take() (list []mirror.Delivery, gap bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, gap = f.list, f.gap
	f.list, f.gap = nil, false
	return list, gap
}

// read reads [key, end), or key if end is nil, at the latest revision of this member.
func (s *Service) read(ctx context.Context, key, end []byte) ([]*mvccpb.KeyValue, statemachine.Revision, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read %q: %w", key, err)
	}
	defer view.Close()
	return readRange(ctx, view, key, end)
}

func readRange(
	ctx context.Context, view mirror.View, key, end []byte,
) ([]*mvccpb.KeyValue, statemachine.Revision, error) {
	resp, err := view.Range(ctx, &pb.RangeRequest{Key: key, RangeEnd: end})
	if err != nil {
		return nil, 0, fmt.Errorf("read %q: %w", key, err)
	}
	return resp.Kvs, view.Revision(), nil
}

// readNow is read after everything that was committed before the call.
func (s *Service) readNow(ctx context.Context, key, end []byte) ([]*mvccpb.KeyValue, statemachine.Revision, error) {
	view, err := s.current(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer view.Close()
	return readRange(ctx, view, key, end)
}

// one is the key that a read of one key found, nil if there is none.
func one(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// keyFollower is a follower of one key: see takes it as it is at a revision, nil if there is none.
type keyFollower func(rev statemachine.Revision, kv *mvccpb.KeyValue) (over bool, err error)

func (see keyFollower) whole(rev statemachine.Revision, kvs []*mvccpb.KeyValue) (bool, error) {
	return see(rev, one(kvs))
}

func (see keyFollower) changed(rev statemachine.Revision, events []*mvccpb.Event) (bool, error) {
	last := events[len(events)-1]
	if last.Type == mvccpb.Event_DELETE {
		return see(rev, nil)
	}
	return see(rev, last.Kv)
}
