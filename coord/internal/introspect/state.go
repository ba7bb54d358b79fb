package introspect

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// state is the store at one revision, for one answer. The first error of reading it stays in err, and what is read
// after it is of no use.
type state struct {
	View
	ctx       context.Context
	remaining func(statemachine.LeaseID) int64
	err       error
}

func (s *state) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Get implements recipes.Reader.
func (s *state) Get(key []byte) *mvccpb.KeyValue {
	if s.err != nil {
		return nil
	}
	r := mirror.NewReader(s.ctx, s.View)
	kv := r.Get(key)
	s.fail(r.Err)
	return kv
}

// Children implements recipes.Reader.
func (s *state) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	if s.err == nil {
		s.fail(s.View.Children(s.ctx, parent, fn))
	}
}

// entries calls fn for all entries there are, with the queue that each belongs to, by lease.
func (s *state) entries(fn func(queue string, k statemachine.AttachedKey)) {
	s.fail(s.AttachedKeys(s.ctx, 0, nil, func(k statemachine.AttachedKey) bool {
		if queue, ok := queueOf(k); ok {
			fn(queue, k)
		}
		return true
	}))
}

// attached calls fn for the keys of one lease.
func (s *state) attached(lease statemachine.LeaseID, fn func(statemachine.AttachedKey)) {
	s.fail(s.AttachedKeys(s.ctx, lease, nil, func(k statemachine.AttachedKey) bool {
		if k.Lease != lease {
			return false
		}
		fn(k)
		return true
	}))
}

// queueOf is the queue of an entry; ok is false for a key that is none.
func queueOf(k statemachine.AttachedKey) (queue string, ok bool) {
	key := string(k.Key)
	queue, ok = layout.QueueOfKey(key)
	if !ok || layout.CheckName(layout.NameOf(queue)) != nil {
		return "", false
	}
	lease, _, ok := layout.ParseEntryKey(queue, key)
	return queue, ok && (lease == k.Lease || statemachine.Lingers(k.Lease))
}

// attachment is what is noted of an entry.
func (s *state) attachment(e recipes.Entry) statemachine.Attachment {
	a, err := s.Attachment(s.leaseOf(e), []byte(e.Key))
	s.fail(err)
	return a
}

// leaseOf is the lease that an entry is attached to: if it lingers, one that is as long as its place is kept.
func (s *state) leaseOf(e recipes.Entry) statemachine.LeaseID {
	if !e.Lingers {
		return e.Lease
	}
	kv, err := s.View.Get([]byte(e.Key))
	s.fail(err)
	return kv.GetLease()
}

// maxFront is how many entries are asked for the kind of their queue.
const maxFront = 32

// kind is what the queue is: as the first of its entries says that a recipe made, or that only etcd's clients have
// entries, if it is none of the first ones.
func (s *state) kind(q *recipes.Snapshot) coordv1.QueueKind {
	if kind := layout.KindOf(q.Queue); kind != coordv1.QueueKind_QUEUE_ETCD {
		return kind
	}
	for _, e := range q.Sorted[:min(len(q.Sorted), maxFront)] {
		if kind := s.attachment(e).Kind; kind != 0 && kind != recipes.KindEndpoint {
			return coordv1.QueueKind(kind)
		}
	}
	return coordv1.QueueKind_QUEUE_ETCD
}

// maxValue is how much of an entry's value is shown, in bytes: all that a lock's can have.
const maxValue = 8 << 10

// entry describes an entry of a queue of this kind.
func (s *state) entry(kind coordv1.QueueKind, e recipes.Entry) *coordv1.Entry {
	p := e.Proto()
	p.SinceUnixMs = s.attachment(e).SinceUnixMS
	if recipes.HasIdentity(kind) {
		p = recipes.WithIdentity(p)
	}
	p.Value = p.Value[:min(len(p.Value), maxValue)]
	return p
}

// info describes a queue.
func (s *state) info(q *recipes.Snapshot) *coordv1.QueueInfo {
	info := &coordv1.QueueInfo{Kind: s.kind(q), Name: layout.NameOf(q.Queue), Waiting: int64(len(q.Waiting()))}
	if holder, ok := q.Holder(); ok {
		info.Holder, info.Identity = s.entry(info.Kind, holder), s.identity(holder.Lease)
	}
	info.Holding = int64(len(q.Holders()))
	info.Semaphore, info.Barrier = q.Semaphore(), q.Barrier()
	if place, ok := q.Lingering(); ok {
		info.LingerMs = max(s.remaining(s.leaseOf(place)), 1)
	}
	return info
}

// identity is that of a session; nil for a lease that is none.
func (s *state) identity(lease statemachine.LeaseID) *coordv1.Identity {
	row, ok, err := s.Lease(lease)
	s.fail(err)
	if !ok || row.Created == 0 {
		return nil
	}
	return identityOf(row)
}

func identityOf(row statemachine.LeaseRow) *coordv1.Identity {
	id := &coordv1.Identity{}
	if proto.Unmarshal(row.Identity, id) != nil {
		return &coordv1.Identity{} // a session all the same
	}
	return id
}
