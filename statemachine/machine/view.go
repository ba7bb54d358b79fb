package machine

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// state is what readers see: the facts after one batch, and a Pebble snapshot taken before anything else was committed,
// so that the latest rows in it are those of exactly this revision. It lives until its last reader lets go.
type state struct {
	db        *database
	snapshot  *pebble.Snapshot
	refs      atomic.Int64
	index     uint64
	version   raftv1.Version
	revision  statemachine.Revision
	compacted statemachine.Revision
	alarms    alarms
	members   []*raftv1.Member
	budget    statemachine.Budget
	broken    broken
	children  mvcc.IndexView
	// outcomeBytes and sessionBytes are what counts for Room.
	outcomeBytes, sessionBytes int
	refused                    refusedList
}

func (s *state) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	_ = s.snapshot.Close() // fails only if closed twice
	s.db.release()
}

// publish lets readers see what was committed.
func (m *Machine) publish() {
	db := m.store.hold()
	next := &state{
		db: db, snapshot: db.NewSnapshot(), index: m.index, version: m.version,
		revision: m.revision, compacted: m.compacted, alarms: m.alarms, members: m.members, broken: m.broken,
		refused: m.denied, budget: m.opts.Budget,
		children:     m.children.View(),
		outcomeBytes: m.sessions.held.outcomes, sessionBytes: m.sessions.held.sessions,
	}
	next.refs.Store(1)
	m.mu.Lock()
	old := m.mu.state
	m.mu.state, m.mu.leases, m.mu.sessions = next, m.leases, m.sessions
	m.mu.Unlock()
	m.told.Begin(m.history)
	if old != nil {
		old.release()
	}
}

// View is the store as it stood after one batch. It is immutable and safe for concurrent use; Close must be called
// once.
type View struct{ *state }

// View returns the latest published state. ErrClosed before Open and after Close.
func (m *Machine) View() (*View, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.state == nil {
		return nil, statemachine.ErrClosed
	}
	m.mu.state.refs.Add(1)
	return &View{m.mu.state}, nil
}

// Close lets go of the view.
func (v *View) Close() { v.release() }

// Revision is the store's revision in the view.
func (v *View) Revision() statemachine.Revision { return v.revision }

// Compacted is the compacted revision, -1 if nothing was ever compacted. It is the oldest that can be read.
func (v *View) Compacted() statemachine.Revision { return v.compacted }

// AppliedIndex is the index of the last log entry in the view.
func (v *View) AppliedIndex() uint64 { return v.index }

// Members are the attribute rows of the members, by id. Shared: do not change them.
func (v *View) Members() []*raftv1.Member { return v.members }

// Alarms are the raised alarms, by type and member. Shared: do not change them.
func (v *View) Alarms() []*pb.AlarmMember { return v.alarms }

func (v *View) rows() mvcc.Rows { return mvcc.Rows{Reader: v.snapshot} }

// Get returns the latest version of key, nil if there is none. The caller owns it.
func (v *View) Get(key []byte) (*mvccpb.KeyValue, error) { return mvcc.Latest(v.rows(), key) }

// Width is about how many keys the work in [key, end) is, limit if it is more, see mvcc.Width; end "\x00" means all
// keys >= key.
func (v *View) Width(key, end []byte, limit int64) int64 {
	// a store that cannot be read ends the replica elsewhere
	n, _ := mvcc.Width(v.rows(), mvcc.Range{Key: key, End: end}, limit)
	return n
}

// Children calls fn for the latest versions of the keys directly below parent, by create revision and then by key,
// until fn returns false or ctx is done. See Step.Children. The versions are the caller's.
func (v *View) Children(ctx context.Context, parent []byte, fn func(*mvccpb.KeyValue) bool) error {
	n := 0
	src := mvcc.ViewRows{Rows: v.rows(), Index: v.children, Revision: v.revision}
	err := mvcc.Children(src, parent, func(kv *mvccpb.KeyValue) bool {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return false
		}
		return fn(kv)
	})
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// Range answers a range request. ErrFutureRev, ErrCompacted, ErrCorrupt. Header.Revision is the view's revision.
func (v *View) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := v.alarms.refuseCorrupt(); err != nil {
		return nil, err
	}
	return rangeKeys(ctx, v.rows(), r, v.revision, v.compacted)
}

// Page is Range for one page of a longer read: it does not look behind r.Limit, so that reading a range page by page
// takes time that grows with the range alone. Count is meaningless; count with Range.
func (v *View) Page(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := v.alarms.refuseCorrupt(); err != nil {
		return nil, err
	}
	return readRange(ctx, v.rows(), r, v.revision, v.compacted, true)
}

// Txn answers a transaction whose operations are ranges, directly in its branches. ErrInvalid for any other operation,
// ErrTooManyOps where one in the log would be refused for its compares.
func (v *View) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := v.alarms.refuseCorrupt(); err != nil {
		return nil, err
	}
	if err := v.budget.CheckTxn(r); err != nil {
		return nil, err
	}
	path, err := choosePath(v.rows(), r, &work{Budget: v.budget})
	if err != nil {
		return nil, err
	}
	for _, op := range path.ops {
		if op.GetRequestRange() == nil {
			return nil, fmt.Errorf("%w: a read-only transaction with operation %T", statemachine.ErrInvalid,
				op.GetRequest())
		}
		if err := checkTxnRange(op.GetRequestRange(), v.revision, v.compacted); err != nil {
			return nil, err
		}
	}
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: v.revision}, Succeeded: path.succeeded}
	for _, op := range path.ops {
		r, err := rangeKeys(ctx, v.rows(), op.GetRequestRange(), v.revision, v.compacted)
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{
			Response: &pb.ResponseOp_ResponseRange{ResponseRange: r},
		})
	}
	return resp, nil
}

// Changes calls fn once for each revision in [from, Revision()] that changed a key, in order, with all its events in
// order, until fn returns false. prev asks for previous versions. ErrCompacted if from < Compacted().
func (v *View) Changes(
	ctx context.Context, from statemachine.Revision, prev bool, fn func(rev statemachine.Revision,
		events []statemachine.Event) bool,
) error {
	if from < v.compacted {
		return statemachine.ErrCompacted
	}
	return mvcc.Changes(ctx, v.rows(), v.history(from, prev), func(main int64, changes []mvcc.Change) bool {
		return fn(main, toEvents(changes))
	})
}

// KeyChanges is Changes for one key, at a cost that depends only on that key's own history.
func (v *View) KeyChanges(
	ctx context.Context, key []byte, from statemachine.Revision, prev bool, fn func(rev statemachine.Revision,
		events []statemachine.Event) bool,
) error {
	if from < v.compacted {
		return statemachine.ErrCompacted
	}
	return mvcc.KeyChanges(ctx, v.rows(), key, v.history(from, prev), func(main int64, changes []mvcc.Change) bool {
		return fn(main, toEvents(changes))
	})
}

func (v *View) history(from statemachine.Revision, prev bool) mvcc.History {
	return mvcc.History{First: max(from, 0), Last: v.revision, Compacted: v.compacted, Prev: prev}
}

func toEvents(changes []mvcc.Change) []statemachine.Event {
	events := make([]statemachine.Event, len(changes))
	for i, c := range changes {
		events[i] = statemachine.Event{Type: mvccpb.Event_PUT, Kv: c.Kv, PrevKv: c.Prev}
		if c.Delete {
			events[i].Type = mvccpb.Event_DELETE
		}
	}
	return events
}

// Lease describes a lease and returns its keys, in key order. It sees what is applied, at once.
func (m *Machine) Lease(id statemachine.LeaseID) (info statemachine.LeaseInfo, keys [][]byte, ok bool) {
	view, err := m.View()
	if err != nil {
		return statemachine.LeaseInfo{}, nil, false
	}
	defer view.Close()
	table := m.leaseTable()
	l, ok := table.Get(id)
	if !ok {
		return statemachine.LeaseInfo{}, nil, false
	}
	keys, err = leaseKeys(view.rows(), id)
	if err != nil {
		m.log.Error("reading the keys of a lease", zapError(err))
	}
	info = leaseInfo(l)
	info.Keys = len(keys)
	return info, keys, true
}

func leaseInfo(l lease.Lease) statemachine.LeaseInfo {
	return statemachine.LeaseInfo{ID: l.ID, TTL: l.TTL, DeadlineMS: l.Deadline, Pending: l.Pending > 0, Owner: l.Owner}
}

// Leases returns all leases without the number of their keys, by when they would expire without a renewal; a pending
// one counts from now.
func (m *Machine) Leases() []statemachine.LeaseInfo {
	table := m.leaseTable()
	if table == nil {
		return nil
	}
	all := table.All()
	infos := make([]statemachine.LeaseInfo, len(all))
	for i, l := range all {
		infos[i] = leaseInfo(l)
	}
	return infos
}

// LeaseClockMS is log time in milliseconds.
func (m *Machine) LeaseClockMS() int64 {
	table := m.leaseTable()
	if table == nil {
		return 0
	}
	ms, _ := table.Clock()
	return ms
}

// leaseTable is the table of the published state, nil before Open. It synchronizes itself.
func (m *Machine) leaseTable() *lease.Table {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.leases
}

// sessionTable is the table of the published state with the leases it belongs to, nil before Open.
func (m *Machine) sessionTable() (*sessions, *lease.Table) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.sessions, m.mu.leases
}
