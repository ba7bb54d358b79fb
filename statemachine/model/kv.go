package model

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// change is one change of one key at a revision.
type change struct {
	main  int64
	event statemachine.Event
}

// at returns the version of key at a revision, nil where there is none.
func (m *Model) at(key []byte, rev int64) *mvccpb.KeyValue {
	for _, c := range slices.Backward(m.history) {
		if c.main > rev || !bytes.Equal(c.event.Kv.Key, key) {
			continue
		}
		if c.event.Type == mvccpb.Event_DELETE {
			return nil
		}
		return c.event.Kv
	}
	return nil
}

// latest returns the latest version of key, nil where there is none.
func (m *Model) latest(key []byte) *mvccpb.KeyValue { return m.at(key, m.Revision()) }

// within reports whether key is one of [start, end) in etcd's terms.
func within(key, start, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, start)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(key, start) >= 0
	}
	return bytes.Compare(key, start) >= 0 && bytes.Compare(key, end) < 0
}

// versions returns the versions of the keys in a range at a revision, in key order.
func (m *Model) versions(start, end []byte, rev int64) []*mvccpb.KeyValue {
	var found []*mvccpb.KeyValue
	seen := make(map[string]bool)
	for _, c := range slices.Backward(m.history) { // the first change of a key that is met is its last
		key := c.event.Kv.Key
		if c.main > rev || seen[string(key)] || !within(key, start, end) {
			continue
		}
		seen[string(key)] = true
		if c.event.Type == mvccpb.Event_PUT {
			found = append(found, c.event.Kv)
		}
	}
	slices.SortFunc(found, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return found
}

// children returns the latest versions of the keys directly below parent, by create revision and then by key.
func (m *Model) children(parent []byte) []*mvccpb.KeyValue {
	dir := append(bytes.Clone(parent), '/')
	end := append(bytes.Clone(parent), '/'+1)
	found := slices.DeleteFunc(m.versions(dir, end, m.Revision()), func(kv *mvccpb.KeyValue) bool {
		return bytes.Contains(kv.Key[len(dir):], []byte("/"))
	})
	slices.SortStableFunc(found, func(a, b *mvccpb.KeyValue) int {
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	})
	return found
}

// note adds a change at the running revision. The previous version is that of the revision before, also where one
// revision changes a key twice; a key that is created has none.
func (m *Model) note(e statemachine.Event) {
	if e.Type == mvccpb.Event_DELETE || e.Kv.CreateRevision < e.Kv.ModRevision {
		e.PrevKv = m.at(e.Kv.Key, m.revision)
	}
	m.history = append(m.history, change{m.revision + 1, e})
	m.out.Events = append(m.out.Events, e)
	m.wrote++
}

func (m *Model) put(key, value []byte, lease int64) *mvccpb.KeyValue {
	rev := m.revision + 1
	kv := &mvccpb.KeyValue{Key: key, Value: value, CreateRevision: rev, ModRevision: rev, Version: 1, Lease: lease}
	if old := m.latest(key); old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
		if old.Lease != lease {
			m.left(old.Lease)
		}
	}
	m.note(statemachine.Event{Type: mvccpb.Event_PUT, Kv: kv})
	delete(m.notes, string(key))
	return kv
}

func (m *Model) delete(key []byte) {
	m.left(m.latest(key).GetLease())
	m.note(statemachine.Event{
		Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: key, ModRevision: m.revision + 1},
	})
	delete(m.notes, string(key))
}

func (m *Model) putCommand(r *pb.PutRequest) (any, error) {
	if err := m.refused(true); err != nil {
		return nil, err
	}
	if isReserved(r.Key) {
		return nil, statemachine.ErrInvalid
	}
	if err := m.checkPut(r); err != nil {
		return nil, err
	}
	return m.doPut(r), nil
}

func (m *Model) checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return statemachine.ErrInvalid
	case r.Lease != 0 && !m.alive(r.Lease):
		return statemachine.ErrLeaseNotFound
	case (r.IgnoreValue || r.IgnoreLease) && m.latest(r.Key) == nil:
		return statemachine.ErrKeyNotFound
	}
	return nil
}

func (m *Model) doPut(r *pb.PutRequest) *pb.PutResponse {
	old := m.latest(r.Key)
	value, lease := r.Value, r.Lease
	if r.IgnoreValue {
		value = old.GetValue()
	}
	if r.IgnoreLease {
		lease = old.GetLease()
	}
	m.put(r.Key, value, lease)
	resp := &pb.PutResponse{Header: m.header()}
	if r.PrevKv {
		resp.PrevKv = old
	}
	return resp
}

func (m *Model) deleteCommand(r *pb.DeleteRangeRequest) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	if len(r.Key) == 0 || isReserved(r.Key) {
		return nil, statemachine.ErrInvalid
	}
	m.frees = true
	return m.doDelete(r), nil
}

// isReserved says whether a key is one that only procedures write.
func isReserved(key []byte) bool { return bytes.HasPrefix(key, []byte(layout.Reserved)) }

func (m *Model) doDelete(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	found := slices.DeleteFunc(m.versions(r.Key, r.RangeEnd, m.Revision()), func(kv *mvccpb.KeyValue) bool {
		return isReserved(kv.Key)
	})
	for _, kv := range found {
		m.delete(kv.Key)
	}
	resp := &pb.DeleteRangeResponse{Header: m.header(), Deleted: int64(len(found))}
	if r.PrevKv {
		resp.PrevKvs = found
	}
	return resp
}

// Range answers a range request at the state as it stands.
func (m *Model) Range(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	rev := r.Revision
	if rev > m.Revision() {
		return nil, statemachine.ErrFutureRev
	}
	if rev <= 0 {
		rev = m.Revision()
	}
	if rev < m.compacted {
		return nil, statemachine.ErrCompacted
	}
	found := m.versions(r.Key, r.RangeEnd, rev)
	resp := &pb.RangeResponse{Header: m.header(), Count: int64(len(found))}
	if r.CountOnly {
		return resp, nil
	}
	resp.Kvs, resp.More = selectKeys(found, r)
	return resp, nil
}

// selectKeys applies sort, filters, limit and keys_only of a request to versions in key order.
func selectKeys(found []*mvccpb.KeyValue, r *pb.RangeRequest) (kvs []*mvccpb.KeyValue, more bool) {
	filters := r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
	if r.SortOrder == pb.RangeRequest_NONE && !filters && r.Limit > 0 && int64(len(found)) > r.Limit {
		found = found[:r.Limit+1] // etcd sorts what the limit left in key order, and one more
	}
	for _, kv := range found {
		if r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision {
			continue
		}
		if r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision {
			continue
		}
		if r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision {
			continue
		}
		if r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision {
			continue
		}
		kv = proto.CloneOf(kv)
		if r.KeysOnly && r.SortTarget != pb.RangeRequest_VALUE {
			kv.Value, kv.Lease = nil, 0
		}
		kvs = append(kvs, kv)
	}
	sortKeys(kvs, r)
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, more = kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for _, kv := range kvs {
			kv.Value = nil
		}
	}
	return kvs, more
}

// sortKeys sorts as etcd does, by sort.Sort and sort.Reverse: that decides the order of equal ones.
func sortKeys(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) {
	by := &byTarget{kvs: kvs, target: r.SortTarget}
	switch {
	case r.SortOrder == pb.RangeRequest_DESCEND:
		sort.Sort(sort.Reverse(by))
	case r.SortOrder == pb.RangeRequest_ASCEND || r.SortTarget != pb.RangeRequest_KEY:
		sort.Sort(by)
	}
}

type byTarget struct {
	kvs    []*mvccpb.KeyValue
	target pb.RangeRequest_SortTarget
}

func (b *byTarget) Len() int      { return len(b.kvs) }
func (b *byTarget) Swap(i, j int) { b.kvs[i], b.kvs[j] = b.kvs[j], b.kvs[i] }
func (b *byTarget) Less(i, j int) bool {
	x, y := b.kvs[i], b.kvs[j]
	switch b.target {
	case pb.RangeRequest_VERSION:
		return x.Version < y.Version
	case pb.RangeRequest_CREATE:
		return x.CreateRevision < y.CreateRevision
	case pb.RangeRequest_MOD:
		return x.ModRevision < y.ModRevision
	case pb.RangeRequest_VALUE:
		return bytes.Compare(x.Value, y.Value) < 0
	}
	return bytes.Compare(x.Key, y.Key) < 0
}

// Change is the events of one revision.
type Change struct {
	Revision int64
	Events   []statemachine.Event
}

// Changes returns the changes in [from, Revision()] of all keys, or of one if key is not nil. What was compacted is not
// given as a previous version, and prev says whether any is wanted.
func (m *Model) Changes(key []byte, from int64, prev bool) ([]Change, error) {
	if from < m.compacted {
		return nil, statemachine.ErrCompacted
	}
	var out []Change
	for _, c := range m.history {
		if c.main < from || key != nil && !bytes.Equal(key, c.event.Kv.Key) {
			continue
		}
		e := c.event
		if !prev || c.main-1 < m.compacted {
			e.PrevKv = nil
		}
		if n := len(out); n > 0 && out[n-1].Revision == c.main {
			out[n-1].Events = append(out[n-1].Events, e)
			continue
		}
		out = append(out, Change{c.main, []statemachine.Event{e}})
	}
	return out, nil
}
