package machine_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// mustEnd applies an entry that the replica must not survive, behind one that is innocent: its last line has these
// words, and nobody sees anything of the batch.
func (d *driver) mustEnd(data []byte, words ...string) {
	d.t.Helper()
	before, told := d.hash(), len(d.applied)
	innocent := d.entry(put("innocent", ""))
	d.index++
	_, err := d.m.Update([]sm.Entry{innocent, {Index: d.index, Cmd: data}})
	if err == nil || d.ended != err.Error() {
		d.t.Fatalf("the replica goes on, or says %q of %v", d.ended, err)
	}
	for _, word := range words {
		if !strings.Contains(d.ended, word) {
			d.t.Errorf("%q does not say %q", d.ended, word)
		}
	}
	if strings.Contains(d.ended, "\n") {
		d.t.Errorf("%q is more than a line", d.ended)
	}
	if len(d.applied) != told || d.value("innocent", 0) != "-" || d.hash() != before {
		d.t.Error("something of the batch can be seen")
	}
}

func encodedEntry(member, number uint64, commands ...raftv1.Command) []byte {
	return raftv1.AppendEntry(nil, &raftv1.Entry{Member: member, Boot: boot, Number: number, Commands: commands})
}

func TestPanicEndsTheReplicaAndNamesTheCommand(t *testing.T) {
	boom := procedure{name: "boom", run: func(s statemachine.Step) error {
		s.Put([]byte("a"), nil, 0)
		panic("boom")
	}}
	t.Run("a command", func(t *testing.T) {
		d := newDriver(t, boom)
		d.mustEnd(encodedEntry(0xabc, 9, put("b", ""), call("boom")),
			"log entry 2.2 is not applied: panic: boom", "command 2 of 2, Call, of member abc (start 1, entry 9)",
			"refuse-command --data-dir DIR --entry 2.2\"")
	})
	t.Run("a request", func(t *testing.T) {
		d := newDriver(t, acquiring{})
		d.guard = func(statemachine.Step, *coordv1.Guard) bool { panic("boom") }
		d.reopen()
		s := d.openSession(5, 1000, 9)
		guarded := putRequest(3, "b", "")
		guarded.Guards = []*coordv1.Guard{{}}
		c := s.command(putRequest(2, "a", ""), guarded)
		d.mustEnd(encodedEntry(self, 99, c), "log entry 3.1.2 is", "Requests", "session 5",
			"its request 2: KIND_PUT, sequence 3", "--entry 3.1.2\"")
	})
	t.Run("a lease", func(t *testing.T) {
		d := newDriver(t)
		d.reactor = reactor(func(statemachine.Step, string) { panic("boom") })
		d.reopen()
		d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 0x1f, TtlMs: 1}),
			command(raftv1.KindPut, &pb.PutRequest{Key: []byte("q/1"), Lease: 0x1f}))
		d.tick(1)
		tick := command(raftv1.KindTick, &raftv1.Tick{Number: 2, DeltaMs: 5, Seen: d.index})
		d.mustEnd(encodedEntry(self, 99, tick), "log entry 4.1 ", "Tick", "at the lease 1f that expires, in what "+
			"follows for \"q\"", "--entry 4.1\"")
	})
}

// What a newer release wrote must not be passed over, and nothing of it is applied.
func TestNewerEntriesEndTheReplica(t *testing.T) {
	newer := encodedEntry(self, 99)
	newer[0]++
	unknown := request(1, 126, &coordv1.Withdraw{})
	for what, data := range map[string]func(*driver) []byte{
		"version":   func(*driver) []byte { return newer },
		"command":   func(*driver) []byte { return encodedEntry(self, 99, put("a", ""), raftv1.Command{Kind: 100}) },
		"procedure": func(*driver) []byte { return encodedEntry(self, 99, put("a", ""), call("of.a.newer.version")) },
		"request": func(d *driver) []byte {
			return encodedEntry(self, 99, d.openSession(5, 1000, 9).command(putRequest(2, "a", ""), unknown))
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDriver(t)
			d.mustEnd(data(d), "too old for", "start this member with the release that the others run")
		})
	}
}

// What does not parse under a version that is known, and what no version has, all members refuse; it is counted.
func TestUnparsedIsRefusedAndCounted(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	for _, c := range []struct {
		cmd  []byte
		want uint64
	}{
		{[]byte{0}, 1}, {[]byte{1, 2}, 1}, {append(encodedEntry(self, 50), 0), 1},
		{encodedEntry(self, 51, raftv1.Command{Kind: 0}, put("a", "")), 1},
		{encodedEntry(self, 52, raftv1.Command{Kind: raftv1.KindPut, Body: []byte{0xff}}), 1},
		{encodedEntry(self, 53, raftv1.Command{Kind: raftv1.KindRequests, Body: []byte{0xff}}), 1},
		{encodedEntry(self, 54, s.command(&coordv1.Request{
			Sequence: 1, Kind: coordv1.Kind_KIND_PUT, Body: []byte{0xff},
		})), 1},
	} {
		before := d.m.Unparsed()
		d.index++
		if _, err := d.m.Update([]sm.Entry{{Index: d.index, Cmd: c.cmd}}); err != nil ||
			d.m.Unparsed()-before != c.want {
			t.Errorf("%x: %v, counted %d", c.cmd, err, d.m.Unparsed()-before)
		}
		for _, e := range d.last.Entries {
			if r := e.Results[0]; r.Err != nil && !errors.Is(r.Err, statemachine.ErrInvalid) {
				t.Errorf("%x: %v", c.cmd, r.Err)
			}
		}
	}
	if d.value("a", 0) != "" {
		t.Errorf("the command beside one of kind 0 has not run")
	}
}

// A read that fails is no empty answer: whichever command meets it ends the replica before anything of its batch is
// published.
func TestReadThatFailsEndsTheReplica(t *testing.T) {
	long := strings.Repeat("x", 3<<10) // so that each space has blocks of its own, which opening does not read
	for what, c := range map[string]raftv1.Command{
		"put": put("b", "2"),
		"compare": command(raftv1.KindTxn, &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("b"), Target: pb.Compare_VERSION}},
		}),
		"ranged": command(raftv1.KindTxn, &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("a"), RangeEnd: []byte("z"), Target: pb.Compare_VERSION}},
		}),
		"read": command(raftv1.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: []byte("b")}}}}}),
		"past": command(raftv1.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), Revision: 2}}}}}),
		"delete": command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("b")}),
		"range":  command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")}),
		"revoke": command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 5}),
		"get":    call("get"),
		"scan":   call("scan"),
		"keys":   call("keys"),
		"note":   call("note"),
	} {
		t.Run(what, func(t *testing.T) {
			var broken atomic.Bool
			d := newDriver(t,
				procedure{name: "get", run: func(s statemachine.Step) error { s.Get([]byte("b")); return nil }},
				procedure{name: "scan", run: func(s statemachine.Step) error {
					s.Scan([]byte("a"), []byte("z"), func(*kv) bool { return true })
					return nil
				}},
				procedure{name: "keys", run: func(s statemachine.Step) error { s.LeaseKeys(5); return nil }},
				procedure{name: "note", run: func(s statemachine.Step) error {
					s.Attachment(5, []byte("a03"+long))
					return nil
				}},
			)
			d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 100}),
				command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b"), Lease: 5}))
			for i := range 30 {
				key := fmt.Appendf(nil, "a%02d%s", i, long)
				d.do(command(raftv1.KindPut, &pb.PutRequest{Key: key, Value: []byte(long), Lease: 5}),
					put(fmt.Sprint("c", i), long+long))
			}
			if err := d.m.Close(); err != nil {
				t.Fatal(err)
			}
			d.fs = errorfs.Wrap(d.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && op.Kind == errorfs.OpFileReadAt {
					// Of this kind, so that a compaction in the background, which may meet it, too, does not end the
					// test's process.
					return fmt.Errorf("the disk is broken: %w", syscall.ENOSPC)
				}
				return nil
			}))
			d.open()
			told := len(d.applied)
			broken.Store(true)
			_, err := d.m.Update([]sm.Entry{d.entry(c)})
			broken.Store(false)
			if err == nil || !strings.Contains(d.ended, "the disk is broken") ||
				!strings.Contains(d.ended, "mend its disk") || len(d.applied) != told {
				t.Fatalf("the replica goes on: %v, its last line is %q", err, d.ended)
			}
		})
	}
}
