package logstore

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/goleak"
)

const testDir = "/raft"

func openStore(t testing.TB, fs vfs.FS, dir string) *store {
	t.Helper()
	db, err := Factory{FS: fs}.Create(config.NodeHostConfig{}, nil, []string{dir}, []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	return db.(*store)
}

// twin is what a replica's part of the store should hold: the dumb version.
type twin struct {
	bootstrap *pb.Bootstrap
	state     pb.State
	snapshot  pb.Snapshot
	// entries from first on; the log ends at last.
	entries     map[uint64]pb.Entry
	first, last uint64
}

func (w *twin) clone() *twin {
	c := *w
	c.entries = maps.Clone(w.entries)
	return &c
}

func (w *twin) save(u pb.Update) {
	if !pb.IsEmptyState(u.State) {
		w.state = u.State
	}
	if u.Snapshot.Index > w.snapshot.Index {
		w.snapshot = u.Snapshot
		w.entries = map[uint64]pb.Entry{}
		w.first, w.last = u.Snapshot.Index+1, u.Snapshot.Index
	}
	for _, e := range u.EntriesToSave {
		for i := e.Index; i <= w.last; i++ {
			delete(w.entries, i)
		}
		w.entries[e.Index] = e
		w.last = e.Index
	}
}

func (w *twin) remove(index uint64) {
	for ; w.first <= min(index, w.last); w.first++ {
		delete(w.entries, w.first)
	}
}

func newTwin() *twin { return &twin{entries: map[uint64]pb.Entry{}, first: 1} }

// same compares records whose empty maps and slices may be nil.
func same[T any](a, b T) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

// check compares all that can be read of a replica.
func (w *twin) check(s *store, node raftio.NodeInfo, rng *rand.Rand) error {
	bs, err := s.GetBootstrapInfo(node.ShardID, node.ReplicaID)
	if w.bootstrap == nil {
		if !errors.Is(err, raftio.ErrNoBootstrapInfo) {
			return fmt.Errorf("bootstrap record %v, %v, want none", bs, err)
		}
	} else if err != nil || !same(bs, *w.bootstrap) {
		return fmt.Errorf("bootstrap record %v, %v, want %v", bs, err, *w.bootstrap)
	}
	ss, err := s.GetSnapshot(node.ShardID, node.ReplicaID)
	if err != nil || !same(ss, w.snapshot) {
		return fmt.Errorf("snapshot %+v, %v, want %+v", ss, err, w.snapshot)
	}
	if err := w.checkState(s, node); err != nil {
		return err
	}
	for _, maxSize := range []uint64{0, 200, math.MaxUint64} {
		low := w.first + rng.Uint64N(max(1, w.last+2-w.first))
		if err := w.checkEntries(s, node, low, low+rng.Uint64N(20), maxSize); err != nil {
			return err
		}
	}
	return w.checkEntries(s, node, w.first, w.last+1, math.MaxUint64)
}

func (w *twin) checkState(s *store, node raftio.NodeInfo) error {
	rs, err := s.ReadRaftState(node.ShardID, node.ReplicaID, w.snapshot.Index)
	if pb.IsEmptyState(w.state) {
		if !errors.Is(err, raftio.ErrNoSavedLog) {
			return fmt.Errorf("state %+v, %v, want none", rs, err)
		}
		return nil
	}
	want := raftio.RaftState{State: w.state, FirstIndex: max(w.first, w.snapshot.Index)}
	want.State.Commit = max(want.State.Commit, w.snapshot.Index)
	if want.EntryCount = w.last + 1 - want.FirstIndex; w.last == w.snapshot.Index {
		want.FirstIndex, want.EntryCount = w.last, 0
	}
	if err != nil || rs != want {
		return fmt.Errorf("state %+v, %v, want %+v", rs, err, want)
	}
	return nil
}

func (w *twin) checkEntries(s *store, node raftio.NodeInfo, low, high, maxSize uint64) error {
	before := []pb.Entry{{Index: 99}}
	got, size, err := s.IterateEntries(before, 7, node.ShardID, node.ReplicaID, low, high, maxSize)
	want, wantSize := slices.Clone(before), uint64(7)
	for i := low; i < high; i++ {
		e, ok := w.entries[i]
		if !ok {
			break
		}
		want = append(want, e)
		if wantSize += uint64(e.SizeUpperLimit()); wantSize > maxSize {
			break
		}
	}
	if err != nil || size != wantSize || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("entries [%d, %d) up to %d bytes: %d bytes, %v, %v\nwant %d bytes, %v", low, high, maxSize,
			size, got, err, wantSize, want)
	}
	return nil
}

// history makes random but lawful changes to a store and to twins.
type history struct {
	rng   *rand.Rand
	twins map[raftio.NodeInfo]*twin
}

func newHistory(seed uint64) *history {
	return &history{rng: rand.New(rand.NewPCG(seed, 1)), twins: map[raftio.NodeInfo]*twin{
		{ShardID: 1, ReplicaID: 1}: newTwin(), {ShardID: 1, ReplicaID: 2}: newTwin(),
		{ShardID: 2, ReplicaID: math.MaxUint64}: newTwin(), {
			ShardID: math.MaxUint64, ReplicaID: math.MaxUint64,
		}: newTwin(),
	}}
}

func (h *history) node() raftio.NodeInfo {
	nodes := slices.SortedFunc(maps.Keys(h.twins), func(a, b raftio.NodeInfo) int {
		return slices.Compare([]uint64{a.ShardID, a.ReplicaID}, []uint64{b.ShardID, b.ReplicaID})
	})
	return nodes[h.rng.IntN(len(nodes))]
}

func (h *history) command() []byte {
	if h.rng.IntN(5) == 0 {
		return nil
	}
	b := make([]byte, 1+h.rng.IntN(100))
	for i := range b {
		b[i] = byte(h.rng.Uint32())
	}
	return b
}

func (h *history) entries(first, term uint64) []pb.Entry {
	out := make([]pb.Entry, 1+h.rng.IntN(8))
	for i := range out {
		out[i] = pb.Entry{Index: first + uint64(i), Term: term, Type: pb.EntryType(h.rng.IntN(4)), Cmd: h.command()}
		if h.rng.IntN(2) == 0 {
			out[i].Key, out[i].ClientID, out[i].SeriesID, out[i].RespondedTo = h.rng.Uint64(), h.rng.Uint64(),
				h.rng.Uint64(), h.rng.Uint64()
		}
	}
	return out
}

// update makes a random update of a replica; onlyCommit says that it changes
// nothing but the commit index.
func (h *history) update(node raftio.NodeInfo) (u pb.Update, onlyCommit bool) {
	w := h.twins[node]
	u = pb.Update{ShardID: node.ShardID, ReplicaID: node.ReplicaID}
	st := w.state
	st.Term = max(st.Term, 1)
	switch what := h.rng.IntN(10); {
	case what < 5: // new entries, in place of uncommitted ones at times
		first := w.last + 1
		if low := max(w.first, st.Commit+1); h.rng.IntN(3) == 0 && low < first {
			first = low + h.rng.Uint64N(first-low)
			st.Term++
		}
		u.EntriesToSave = h.entries(first, st.Term)
		st.Commit = max(st.Commit, min(first-1, st.Commit+h.rng.Uint64N(3)))
	case what < 8:
		st.Commit += h.rng.Uint64N(w.last + 1 - st.Commit)
	case what < 9:
		st.Term++
		st.Vote = h.rng.Uint64()
	default:
		u.Snapshot = h.snapshot(node, w.last+1+h.rng.Uint64N(5))
		st.Commit = u.Snapshot.Index
		if h.rng.IntN(2) == 0 {
			u.EntriesToSave = h.entries(u.Snapshot.Index+1, st.Term)
		}
	}
	if st != w.state {
		u.State = st
	}
	onlyCommit = len(u.EntriesToSave) == 0 && u.Snapshot.Index == 0 && st.Term == w.state.Term &&
		st.Vote == w.state.Vote
	return u, onlyCommit
}

func (h *history) snapshot(node raftio.NodeInfo, index uint64) pb.Snapshot {
	return pb.Snapshot{
		Index: index, Term: h.rng.Uint64N(9) + 1, ShardID: node.ShardID, Type: pb.OnDiskStateMachine,
		Filepath: fmt.Sprint("snap-", index),
		Membership: pb.Membership{
			Addresses: map[uint64]string{1: "a"}, Removed: map[uint64]bool{4: true},
			NonVotings: map[uint64]string{}, Witnesses: map[uint64]string{},
		},
	}
}

func (h *history) bootstrap() pb.Bootstrap {
	return pb.Bootstrap{
		Join: h.rng.IntN(2) == 0, Type: pb.OnDiskStateMachine,
		Addresses: map[uint64]string{1: fmt.Sprint(h.rng.Uint32())},
	}
}

// step makes one change of the store and the twins. It says which replicas it
// touched and whether what it did is durable.
func (h *history) step(s *store) (touched []raftio.NodeInfo, durable bool, err error) {
	node := h.node()
	w := h.twins[node]
	switch what := h.rng.IntN(20); {
	case what < 14:
		return h.saveSome(s)
	case what < 16: // a snapshot of our own
		if w.state.Commit < w.first {
			return nil, false, nil
		}
		ss := h.snapshot(node, w.first+h.rng.Uint64N(w.state.Commit+1-w.first))
		newer := ss.Index > w.snapshot.Index
		if newer {
			w.snapshot = ss
		}
		err = s.SaveSnapshots([]pb.Update{{ShardID: node.ShardID, ReplicaID: node.ReplicaID, Snapshot: ss}})
		return []raftio.NodeInfo{node}, newer, err
	case what < 17:
		index := h.rng.Uint64N(w.snapshot.Index + 1)
		w.remove(index)
		if err = s.RemoveEntriesTo(node.ShardID, node.ReplicaID, index); err == nil {
			_, err = s.CompactEntriesTo(node.ShardID, node.ReplicaID, index)
		}
		return []raftio.NodeInfo{node}, false, err
	case what < 18:
		bs := h.bootstrap()
		w.bootstrap = &bs
		return []raftio.NodeInfo{node}, true, s.SaveBootstrapInfo(node.ShardID, node.ReplicaID, *w.bootstrap)
	case h.rng.IntN(8) != 0:
		return nil, false, nil
	case what < 19:
		h.twins[node] = newTwin()
		return []raftio.NodeInfo{node}, true, s.RemoveNodeData(node.ShardID, node.ReplicaID)
	default:
		ss := h.snapshot(node, h.rng.Uint64N(w.last+20)+1)
		h.twins[node] = &twin{
			bootstrap: &pb.Bootstrap{
				Join: true, Type: ss.Type, Addresses: map[uint64]string{},
			}, state: pb.State{Term: ss.Term, Commit: ss.Index},
			snapshot: ss, entries: map[uint64]pb.Entry{}, first: ss.Index + 1, last: ss.Index,
		}
		return []raftio.NodeInfo{node}, true, s.ImportSnapshot(ss, node.ReplicaID)
	}
}

// saveSome saves the updates of one or two replicas at once.
func (h *history) saveSome(s *store) (touched []raftio.NodeInfo, durable bool, err error) {
	var updates []pb.Update
	for range 1 + h.rng.IntN(2) {
		node := h.node()
		if slices.Contains(touched, node) {
			continue
		}
		u, onlyCommit := h.update(node)
		h.twins[node].save(u)
		updates, touched = append(updates, u), append(touched, node)
		durable = durable || !onlyCommit
	}
	return touched, durable, s.SaveRaftState(updates, 1)
}

func (h *history) check(t *testing.T, s *store) {
	t.Helper()
	for node, w := range h.twins {
		if err := w.check(s, node, h.rng); err != nil {
			t.Fatalf("%s: %v", name(node), err)
		}
	}
	nodes, err := s.ListNodeInfo()
	if err != nil {
		t.Fatal(err)
	}
	for node, w := range h.twins {
		if slices.Contains(nodes, node) != (w.bootstrap != nil) {
			t.Fatalf("list has %v, %s has bootstrap record %v", nodes, name(node), w.bootstrap)
		}
	}
}

// seeds are as many as given, or a fifth of them where time is short, as under the race detector.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return n / 5
	}
	return n
}

// The store and a store made of maps agree, whatever is done and however often
// the store is opened anew.
func TestTwin(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for seed := range seeds(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			fs := vfs.NewMem()
			s := openStore(t, fs, testDir)
			h := newHistory(seed)
			for i := range 300 {
				touched, _, err := h.step(s)
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				for _, node := range touched {
					if err := h.twins[node].check(s, node, h.rng); err != nil {
						t.Fatalf("step %d, %s: %v", i, name(node), err)
					}
				}
				switch h.rng.IntN(40) {
				case 0:
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = openStore(t, fs, testDir)
					h.check(t, s)
				case 1:
					if err := s.db.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.check(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
