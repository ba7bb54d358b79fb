package recipestest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// ErrUnknown is what Propose answers when a fault hid the outcome.
var ErrUnknown = errors.New("request timed out")

// Member is a Store with a log in front of it and a hub behind it, all in memory. Changes reach subscribers later, on a
// goroutine of its own, as they do on a real member. Safe for concurrent use.
type Member struct {
	mu    sync.Mutex
	store *Store
	subs  map[*subscription]struct{}
	views int
	// touched is closed when the next thing happens, see Touched.
	touched chan struct{}

	// BeforePropose, if set, is called with the procedure before each proposal; its error is returned instead of the
	// result, and drop says whether the command is lost or executed all the same. Set it before use.
	BeforePropose func(ctx context.Context, procedure string) (drop bool, err error)

	changes chan change
	done    sync.WaitGroup
}

type change struct {
	rev    statemachine.Revision
	events []statemachine.Event // nil: a gap
}

type subscription struct {
	key, end string
	from     statemachine.Revision
	fn       func(rev statemachine.Revision, events []statemachine.Event, gap bool)
}

// NewMember starts a Member; the caller closes it.
func NewMember() *Member {
	m := &Member{
		store: New(), subs: map[*subscription]struct{}{}, changes: make(chan change, 1<<16),
		touched: make(chan struct{}),
	}
	m.store.Committed = func(rev statemachine.Revision, events []statemachine.Event) {
		m.changes <- change{rev, events}
	}
	m.done.Go(m.deliver)
	return m
}

// Close stops the delivery of changes.
func (m *Member) Close() {
	close(m.changes)
	m.done.Wait()
}

// Do runs fn on the store, as a command of somebody else.
func (m *Member) Do(fn func(*Store)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.store.Rev
	fn(m.store)
	if m.store.Rev != before {
		m.touch()
	}
}

// Touched is closed when the store changes next, or somebody takes a view, subscribes or unsubscribes: a test that
// waits for that takes it before it looks.
func (m *Member) Touched() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.touched
}

// touch wakes who waits. The caller holds the mutex.
func (m *Member) touch() {
	close(m.touched)
	m.touched = make(chan struct{})
}

// Jump runs fn on the store as a snapshot would: its changes are not delivered, a gap is.
func (m *Member) Jump(fn func(*Store)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	committed := m.store.Committed
	m.store.Committed = nil
	fn(m.store)
	m.store.Committed = committed
	m.changes <- change{rev: m.store.Rev}
	m.touch()
}

// Views is how often View was called.
func (m *Member) Views() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.views
}

// Subscriptions is how many there are.
func (m *Member) Subscriptions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.subs)
}

func (m *Member) deliver() {
	for c := range m.changes {
		m.mu.Lock()
		subs := slices.Collect(maps.Keys(m.subs))
		m.mu.Unlock()
		for _, s := range subs {
			if c.rev > s.from {
				s.deliver(c)
			}
		}
	}
}

func (s *subscription) deliver(c change) {
	if c.events == nil {
		s.fn(c.rev, nil, true)
		return
	}
	var match []statemachine.Event
	for _, e := range c.events {
		if k := string(e.Kv.Key); k == s.key || k > s.key && (k < s.end || s.end == "\x00") {
			match = append(match, e)
		}
	}
	if match != nil {
		s.fn(c.rev, match, false)
	}
}

// Propose executes a Call.
func (m *Member) Propose(ctx context.Context, _ raftv1.Kind, body []byte) (any, error) {
	call := &raftv1.Call{}
	if err := proto.Unmarshal(body, call); err != nil {
		return nil, err
	}
	var drop bool
	var fault error
	if m.BeforePropose != nil {
		drop, fault = m.BeforePropose(ctx, call.Procedure)
	}
	if drop {
		return nil, fault
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	response, err := m.store.Call(call.Procedure, call.Request)
	m.touch()
	if fault != nil {
		return nil, fault
	}
	return statemachine.Called{Response: response, Revision: m.store.Rev}, err
}

// LeaseAlive reports whether the lease exists.
func (m *Member) LeaseAlive(id statemachine.LeaseID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.store.Leases[id]
}

// Subscribe calls fn for all later changes of key, or in [key, end) if end is not empty; end "\x00" means all keys >=
// key.
func (m *Member) Subscribe(
	key, end []byte, fn func(rev statemachine.Revision, events []statemachine.Event, gap bool),
) (statemachine.Revision, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &subscription{key: string(key), end: string(end), from: m.store.Rev, fn: fn}
	m.subs[s] = struct{}{}
	m.touch()
	return s.from, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, s)
		m.touch()
	}
}

// View is a copy of the store.
func (m *Member) View() *View {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views++
	m.touch()
	return &View{store: m.store.Copy()}
}

// View reads one revision.
type View struct{ store *Store }

// Close does nothing.
func (v *View) Close() {}

// Revision is the view's.
func (v *View) Revision() statemachine.Revision { return v.store.Rev }

// Children calls fn for the keys directly below parent by create revision, and then by key, until fn returns false.
func (v *View) Children(_ context.Context, parent []byte, fn func(*mvccpb.KeyValue) bool) error {
	v.store.Children(parent, fn)
	return nil
}

// Range knows key, range end and limit.
func (v *View) Range(_ context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: v.store.Rev}}
	if len(req.RangeEnd) == 0 {
		if kv := v.store.Get(req.Key); kv != nil {
			resp.Kvs = append(resp.Kvs, kv)
		}
		return resp, nil
	}
	v.store.Scan(req.Key, req.RangeEnd, func(kv *mvccpb.KeyValue) bool {
		resp.More = req.Limit > 0 && int64(len(resp.Kvs)) == req.Limit
		if !resp.More {
			resp.Kvs = append(resp.Kvs, kv)
		}
		return !resp.More
	})
	return resp, nil
}
