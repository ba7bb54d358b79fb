package watch

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// store is what a hub under test watches. Whatever it does is recorded in a history, the truth.
type store interface {
	Source
	observe(*Hub)
	// apply commits each list of ops at one revision, in one batch, and tells the hub.
	apply(commits [][]op)
	compact(at statemachine.Revision)
	// snapshot does the same without telling the hub, then tells it that everything was replaced.
	snapshot(batches [][][]op, compact statemachine.Revision)
}

// historyStore is the history itself.
type historyStore struct {
	*history
	hub *Hub
}

func (s *historyStore) observe(h *Hub)                   { s.hub = h }
func (s *historyStore) apply(commits [][]op)             { s.hub.Applied(s.history.apply(commits...)) }
func (s *historyStore) compact(at statemachine.Revision) { s.hub.Applied(s.history.compact(at)) }

func (s *historyStore) snapshot(batches [][][]op, compact statemachine.Revision) {
	for _, commits := range batches {
		s.history.apply(commits...)
	}
	s.hub.Recovered(s.history.compact(compact), nil)
}

// machineStore is the real state machine, twice: a leader that applies everything, and the follower with the hub, which
// gets some of it as a snapshot.
type machineStore struct {
	Source
	t                testing.TB
	truth            *history
	leader, follower *machine.Machine
	hub              *Hub
	index            uint64
}

func newMachineStore(t testing.TB, truth *history) *machineStore {
	s := &machineStore{t: t, truth: truth}
	s.leader = machine.New(machine.Options{Dir: "db", FS: vfs.NewMem(), Shard: 1, Member: 1, Boot: 1})
	s.follower = machine.New(machine.Options{
		Dir: "db", FS: vfs.NewMem(), Shard: 1, Member: 2, Boot: 1, Observer: s, SweepFrom: 1,
	})
	for _, m := range []*machine.Machine{s.leader, s.follower} {
		if _, err := m.Open(nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	s.Source = From(s.follower.View)
	return s
}

func (s *machineStore) observe(h *Hub) { s.hub = h }
func (s *machineStore) Applied(a *statemachine.Applied) {
	if s.hub != nil { // Open tells of an empty store before there is a hub
		s.hub.Applied(a)
	}
}
func (s *machineStore) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	s.hub.Recovered(a, executed)
}

func (s *machineStore) apply(commits [][]op) {
	a := s.truth.apply(commits...)
	s.update([]*machine.Machine{s.leader, s.follower}, s.txns(commits)...)
	if a.Revision != s.revision() {
		s.t.Errorf("machine is at revision %d, history at %d", s.revision(), a.Revision)
	}
}

func (s *machineStore) compact(at statemachine.Revision) {
	s.truth.compact(at)
	s.update([]*machine.Machine{s.leader, s.follower}, compactCommand(at)...)
}

func (s *machineStore) snapshot(batches [][][]op, compact statemachine.Revision) {
	leader := []*machine.Machine{s.leader}
	for _, commits := range batches {
		s.truth.apply(commits...)
		s.update(leader, s.txns(commits)...)
	}
	s.truth.compact(compact)
	s.update(leader, compactCommand(compact)...)
	prepared, err := s.leader.PrepareSnapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	var image bytes.Buffer
	if err := s.leader.SaveSnapshot(prepared, &image, nil); err != nil {
		s.t.Fatal(err)
	}
	if err := s.follower.RecoverFromSnapshot(&image, nil); err != nil {
		s.t.Fatal(err)
	}
}

func (s *machineStore) revision() statemachine.Revision {
	v, err := s.View()
	if err != nil {
		s.t.Fatal(err)
	}
	defer v.Close()
	return v.Revision()
}

// update applies one entry.
func (s *machineStore) update(machines []*machine.Machine, commands ...raftv1.Command) {
	if len(commands) == 0 {
		return
	}
	s.index++
	e := &raftv1.Entry{Member: 1, Boot: 1, Number: s.index, Settled: s.index - 1, Commands: commands}
	for _, m := range machines {
		if _, err := m.Update([]sm.Entry{{Index: s.index, Cmd: raftv1.AppendEntry(nil, e)}}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *machineStore) txns(commits [][]op) []raftv1.Command {
	var commands []raftv1.Command
	for _, ops := range commits {
		commands = append(commands, command(raftv1.KindTxn, txn(ops)))
	}
	return commands
}

// txn is the request that makes ops one revision.
func txn(ops []op) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for _, o := range ops {
		r := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: o.key, Value: o.value}}}
		if o.value == nil {
			// a range, which can be swept
			one := &pb.DeleteRangeRequest{Key: o.key, RangeEnd: append(bytes.Clone(o.key), 0)}
			r = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: one}}
		}
		t.Success = append(t.Success, r)
	}
	return t
}

func compactCommand(at statemachine.Revision) []raftv1.Command {
	if at <= 0 {
		return nil
	}
	return []raftv1.Command{command(raftv1.KindCompact, &pb.CompactionRequest{Revision: at})}
}

func command(kind raftv1.Kind, m proto.Message) raftv1.Command {
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raftv1.Command{Kind: kind, Body: body}
}
