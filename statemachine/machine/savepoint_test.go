package machine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// refusing applies random commands, some in steps that are undone: afterwards the machine is as one that never heard of
// them.
type refusing struct {
	t       *testing.T
	m, twin *Machine
	index   uint64
	ticks   uint64
	*rand.Rand
}

func newRefusing(t *testing.T, seed uint64) *refusing {
	r := &refusing{t: t, Rand: rand.New(rand.NewPCG(seed, 1))}
	for i, m := range []**Machine{&r.m, &r.twin} {
		*m = New(Options{Dir: "db", FS: vfs.NewCrashableMem(), Shard: 1, SweepFrom: 1 + i})
		if _, err := (*m).Open(nil); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestAnyStepCanBeUndone: whatever the commands of a step change, rows, leases, streams, sessions, outcomes, alarms,
// members or revisions, is as before when the step is refused at last.
func TestAnyStepCanBeUndone(t *testing.T) {
	for seed := range uint64(20) {
		r := newRefusing(t, seed)
		for range 150 {
			r.index++
			c := r.command()
			entry := sm.Entry{
				Index: r.index, Cmd: raftv1.AppendEntry(nil, &raftv1.Entry{
					Member: 1, Boot: 1, Number: r.index, Commands: []raftv1.Command{c},
				}),
			}
			undone := []raftv1.Command{r.command(), r.command(), r.command()}
			r.inVain(undone)
			for _, m := range []*Machine{r.m, r.twin} {
				if _, err := m.Update([]sm.Entry{entry}); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := describe(t, r.m), describe(t, r.twin); got != want {
				t.Fatalf("seed %d, entry %d: after the undone commands %v\n%s\nwithout them\n%s", seed, r.index, undone,
					got, want)
			}
		}
		for _, m := range []*Machine{r.m, r.twin} {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// inVain applies commands in one step that is undone, some of them in a step inside of it.
func (r *refusing) inVain(commands []raftv1.Command) {
	b := newBatch(r.m)
	b.index, b.applied.Index = r.index, r.index
	refusal := errors.New("all in vain")
	err := b.attempt(func() error {
		for _, c := range commands {
			if c.Kind == raftv1.KindTick {
				continue // time is not part of a step
			}
			// its requests are steps, and so is the one that leaves an outcome for another
			if c.Kind == raftv1.KindRequests {
				if s := b.m.sessions.byID[1]; s != nil {
					run := &requestRun{batch: b, s: s, row: &outcomeRow{index: b.index}}
					run.withdraw(6, 7)
				}
				continue
			}
			if r.IntN(2) == 0 {
				_ = b.attempt(func() error {
					b.command(c)
					return refusal
				})
			}
			b.command(c)
			b.kv.End()
		}
		return refusal
	})
	if err != refusal || b.err != nil {
		r.t.Fatal(err, b.err)
	}
	if len(b.applied.Events)+len(b.applied.Sessions)+b.kv.Rows().Len() > 0 || b.applied.AlarmsChanged ||
		b.applied.MembersChanged || b.kv.Revision() != r.m.revision || b.compacted != r.m.compacted || b.renewals > 0 {
		r.t.Fatalf("left over: %+v, %d rows, revision %d", b.applied, b.kv.Rows().Len(), b.kv.Revision())
	}
}

// describe prints all that the log has changed in a machine.
func describe(t *testing.T, m *Machine) string {
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var out bytes.Buffer
	hash, err := v.StateHash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "rows %x\n%+v\n%+v\n%v %v\n", hash, m.leases.All(), m.leases.Facts(), m.alarms, m.members)
	for _, id := range m.sessions.after(-1 << 63) {
		s := *m.sessions.byID[id]
		fmt.Fprintf(&out, "session %d %d %d %d %q, acknowledged %d, unkept %d, %d bytes:", id, s.created, s.epoch,
			s.stream, s.identity, s.outcomes.acknowledged, s.outcomes.unkept, s.outcomes.bytes)
		var sequences []uint64
		for n := range s.outcomes.bySequence {
			sequences = append(sequences, n)
		}
		slices.Sort(sequences)
		fmt.Fprint(&out, sequences, " cost ", s.outcomes.cost)
		for _, n := range sequences { // whose rows go with the last of their outcomes
			row := s.outcomes.bySequence[n].row
			fmt.Fprintf(&out, " %d of row %d.%d: %d", n, row.index, row.ordinal, row.live)
		}
		fmt.Fprintln(&out)
	}
	fmt.Fprintf(&out, "held %+v\n", m.sessions.held)
	for id := range uint64(4) {
		s, ok := m.leases.Stream(id)
		fmt.Fprintln(&out, s, ok)
	}
	return out.String()
}

func (r *refusing) session() (id int64, created, epoch uint64) {
	id = 1 + r.Int64N(4)
	s, _ := r.twin.Session(id)
	return id, s.Created, s.Epoch
}

// command draws one of any kind.
func (r *refusing) command() raftv1.Command {
	key, stream := []byte{'a' + byte(r.IntN(4))}, 1+r.Uint64N(3)
	id, created, epoch := r.session()
	switch r.IntN(14) {
	case 0:
		return commandOf(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5 + r.Int64N(3), TtlMs: 1 + r.Int64N(30)})
	case 1:
		return commandOf(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 1 + r.Int64N(7)})
	case 2:
		return commandOf(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{1 + r.Int64N(7), 1 + r.Int64N(7)}})
	case 3:
		return commandOf(raftv1.KindSessionOpen, &raftv1.SessionOpen{
			Id: id, TtlMs: 1 + r.Int64N(30), Stream: stream, Identity: key,
		})
	case 4:
		return commandOf(raftv1.KindSessionAttach, &raftv1.SessionAttach{
			Stream: stream, Items: []*raftv1.SessionAttach_Item{{Id: id, Created: created, Epoch: epoch + 1}},
		})
	case 5:
		return commandOf(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: id, Created: created})
	case 6:
		return commandOf(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: []uint64{stream, 1 + r.Uint64N(3)}})
	case 7:
		return commandOf(raftv1.KindAlarm, &pb.AlarmRequest{
			Action: pb.AlarmRequest_AlarmAction(1 + r.IntN(2)), Alarm: 7, MemberID: stream,
		})
	case 8:
		return commandOf(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: stream, Name: string(key)}})
	case 9:
		return commandOf(raftv1.KindCompact, &pb.CompactionRequest{Revision: r.Int64N(r.twin.revision + 1)})
	case 10:
		r.ticks = r.twin.leaseFacts().LastTick + 1
		return commandOf(raftv1.KindTick, &raftv1.Tick{
			Number: r.ticks, DeltaMs: r.Int64N(6), Seen: r.index - r.Uint64N(2),
		})
	case 11:
		return commandOf(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: key, RangeEnd: []byte("c")})
	case 12:
		return commandOf(raftv1.KindPut, &pb.PutRequest{Key: key, Lease: 1 + r.Int64N(7)})
	}
	put := &coordv1.Request{
		Sequence: 1 + r.Uint64N(5), Kind: coordv1.Kind_KIND_PUT, Body: commandOf(0, &pb.PutRequest{Key: key}).Body,
	}
	withdraw := &coordv1.Request{
		Sequence: 6, Kind: coordv1.Kind_KIND_WITHDRAW, Body: commandOf(0, &coordv1.Withdraw{Sequence: 7}).Body,
	}
	return commandOf(raftv1.KindRequests, &raftv1.Requests{
		Session: id, Created: created, Epoch: epoch, Requests: [][]byte{commandOf(0, put).Body,
			commandOf(0, withdraw).Body},
	})
}

func commandOf(kind raftv1.Kind, m proto.Message) raftv1.Command {
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raftv1.Command{Kind: kind, Body: body}
}
