package machine_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/model"
)

// generator draws entries of a log. It looks at the model to hit what is near: revisions around the compacted one and
// the last, the next tick, leases that exist.
type generator struct {
	*rand.Rand
	now       *model.Model
	proposers []*proposer
	tick      uint64 // number of the last tick drawn
}

// proposer is one member that proposes entries; some stay under way for a while, and come again.
type proposer struct {
	member, boot, number uint64 // its start is startOf(boot)
	underway             []*raftv1.Entry
}

var modelKeys = []string{
	"a", "a\x00", "a\x00\x01", "a\x01", "aa", "ab", "b", "b\xff", "b\xff\xff", "c", "\x00", "\x00\x00", "\xff",
	"\xff\xff",
	"a/", "a/1", "a/2", "a/\xff", "a/b/1", "a/b/2", "a\x00/1", "/1",
	"_coord", "_coord/", "_coord/a", "_coord/b/c", "_coord0",
}

// modelParents are what the keys with a slash are children of, and what has none.
var modelParents = []string{"a", "a/b", "a\x00", "", "a/", "b"}

var modelLeases = []int64{1, 2, 3, 4, -1, -7, 1 << 62}

// startOf numbers the start of a boot; the next number is that of a copy with the same boot.
func startOf(boot uint64) uint64 { return 100 * boot }

func newGenerator(rng *rand.Rand) *generator {
	return &generator{Rand: rng, proposers: []*proposer{{member: 7, boot: 1}, {member: 8, boot: 1}}}
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// entry draws the content of the next log entry at the given index.
func (g *generator) entry(index uint64) []byte {
	if g.chance(2) {
		return nil
	}
	if g.chance(1) {
		return []byte("\x01no entry of ours")
	}
	p := pick(g, g.proposers)
	if g.chance(1) {
		p.boot, p.number = p.boot+1, 0
	}
	for len(p.underway) == 0 || g.chance(40) {
		p.underway = append(p.underway, g.newEntry(p, index))
	}
	at := g.IntN(len(p.underway))
	e := p.underway[at]
	if g.chance(85) { // the others will come again
		p.underway = slices.Delete(p.underway, at, at+1)
	}
	return raftv1.AppendEntry(nil, e)
}

func (g *generator) newEntry(p *proposer, index uint64) *raftv1.Entry {
	p.number++
	e := &raftv1.Entry{Member: p.member, Boot: p.boot, Start: startOf(p.boot), Number: p.number}
	if g.chance(3) { // a copy of the member's directory runs beside it
		e.Start++
	}
	if g.chance(70) { // it waits for all from the oldest that is under way, or has given up some of them
		e.Settled = p.number - 1
		for _, u := range p.underway {
			if u.Boot == p.boot && !g.chance(5) {
				e.Settled = min(e.Settled, u.Number-1)
			}
		}
	}
	for range 1 + g.IntN(5) {
		c := g.command(index)
		if g.chance(50) {
			c.By = raftv1.Principal{User: fmt.Sprint("u", g.IntN(3)), AuthRevision: g.Uint64N(3)}
		}
		e.Commands = append(e.Commands, c)
	}
	return e
}

func (g *generator) command(index uint64) raftv1.Command {
	if g.chance(30) {
		return g.sessionCommand()
	}
	for n := g.IntN(105); ; n = g.IntN(105) {
		switch {
		case n < 28:
			return command(raftv1.KindPut, g.put())
		case n < 38:
			return command(raftv1.KindDeleteRange, g.deleteRange())
		case n < 56:
			return command(raftv1.KindTxn, g.txn(0))
		case n < 59:
			return command(raftv1.KindCompact, &pb.CompactionRequest{Revision: extreme(g, g.revision())})
		case n < 66:
			return command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{
				Id: g.lease(), TtlMs: extreme(g, int64(g.IntN(30))),
			})
		case n < 68:
			return command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: g.lease()})
		case n < 75:
			return command(raftv1.KindLeaseRenew, g.renewal())
		case n < 87:
			return command(raftv1.KindTick, g.ticking(index))
		case n < 90:
			return command(raftv1.KindAlarm, g.alarm())
		case n < 92:
			return command(raftv1.KindMemberPut, &raftv1.MemberPut{
				Member: g.member(), Add: g.chance(20), Claim: g.chance(50),
			})
		case n < 93 && g.chance(30):
			return command(raftv1.KindVersionRaise, &raftv1.VersionRaise{
				Version: uint32(g.Uint64N(uint64(raftv1.MaxVersion) + 2)),
			})
		case n < 93 && g.chance(20):
			return command(raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: g.Uint64N(3)})
		case n < 93:
			return command(raftv1.KindMemberRemove, &raftv1.MemberRemove{Id: g.Uint64N(4)})
		case n < 95:
			return command(raftv1.KindStateHash, &raftv1.StateHash{})
		case n < 96:
			return raftv1.Command{Kind: raftv1.KindPut, Body: []byte("\xff")}
		default:
			return command(raftv1.KindCall, &raftv1.Call{
				Procedure: scripted{}.Name(), Request: g.script(), UnixMs: int64(g.IntN(3)),
			})
		}
	}
}

func (g *generator) key() []byte {
	if g.chance(1) {
		return nil
	}
	return []byte(pick(g, modelKeys))
}

// keys draws a range, half the time of one key.
func (g *generator) keys() (key, end []byte) {
	switch n := g.IntN(10); {
	case n < 5:
		return g.key(), nil
	case n < 7:
		return g.key(), []byte{0}
	case n < 8:
		return []byte{0}, []byte{0}
	}
	return g.key(), g.key()
}

func (g *generator) value() []byte { return fmt.Append(nil, "v", g.IntN(6))[:g.IntN(3)] }

// lease draws the id of a lease, rarely 0.
func (g *generator) lease() int64 {
	if g.chance(2) {
		return 0
	}
	if g.chance(25) {
		return g.session().ID
	}
	if g.chance(10) { // a lease that lingers, or could
		ids := []int64{statemachine.FirstLingering}
		for _, l := range g.now.Leases() {
			if statemachine.Lingers(l.ID) {
				ids = append(ids, l.ID)
			}
		}
		return ids[len(ids)-1]
	}
	return pick(g, modelLeases)
}

// revision draws one near the compacted or the latest one.
func (g *generator) revision() int64 {
	near := pick(g, []int64{g.now.Revision(), g.now.Compacted(), 0})
	if g.chance(50) {
		near = (max(g.now.Compacted(), 0) + g.now.Revision()) / 2
	}
	return near + int64(g.IntN(7)) - 3
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	switch n := g.IntN(10); {
	case n < 3:
		r.Lease = g.lease()
	case n == 3:
		r.IgnoreLease = true
	case n == 4:
		r.Value, r.IgnoreValue = nil, true
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	key, end := g.keys()
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: g.chance(50)}
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	key, end := g.keys()
	r := &pb.RangeRequest{Key: key, RangeEnd: end}
	if g.chance(40) {
		r.Revision = g.revision()
	}
	if g.chance(40) {
		r.Limit = int64(g.IntN(5))
	}
	if g.chance(50) {
		r.SortOrder = pick(g, []pb.RangeRequest_SortOrder{pb.RangeRequest_NONE, pb.RangeRequest_ASCEND,
			pb.RangeRequest_DESCEND})
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(len(pb.RangeRequest_SortTarget_name)))
	}
	for _, filter := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(8) {
			*filter = g.revision()
		}
	}
	r.KeysOnly, r.CountOnly = g.chance(20), g.chance(10)
	return r
}

// txn draws a transaction, with others nested in it down to two levels. One level changes a key once at most, as the
// API demands; different nested ones may change the same.
func (g *generator) txn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.IntN(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	r.Success, r.Failure = g.ops(depth), g.ops(depth)
	return r
}

func (g *generator) ops(depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	put := make(map[string]bool)
	for range g.IntN(4) {
		op := &pb.RequestOp{}
		switch n := g.IntN(10); {
		case n < 4:
			r := g.put()
			if put[string(r.Key)] {
				continue
			}
			put[string(r.Key)] = true
			op.Request = &pb.RequestOp_RequestPut{RequestPut: r}
		case n < 6:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}
		case n < 9 || depth == 2:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}
		default:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}
		}
		ops = append(ops, op)
	}
	return ops
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(g.IntN(4)), Target: pb.Compare_CompareTarget(g.IntN(5))}
	c.Key, c.RangeEnd = g.keys()
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(g.IntN(4))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: pick(g, []int64{0, g.revision()})}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: pick(g, []int64{0, g.revision()})}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, []int64{0, g.lease()})}
	}
	return c
}

func (g *generator) readOnlyTxn() *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.IntN(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	for _, ops := range []*[]*pb.RequestOp{&r.Success, &r.Failure} {
		for range g.IntN(3) {
			*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}})
		}
	}
	return r
}

func (g *generator) renewal() *raftv1.LeaseRenew {
	r := &raftv1.LeaseRenew{}
	for range 1 + g.IntN(3) {
		r.Ids = append(r.Ids, g.lease())
	}
	return r
}

// ticking draws a tick, mostly the next one, which has mostly seen nearly all of the log.
func (g *generator) ticking(index uint64) *raftv1.Tick {
	if g.chance(85) {
		g.tick = g.now.LeaseFacts().LastTick + 1
	}
	t := &raftv1.Tick{Number: g.tick, Nonce: g.Uint64N(3), DeltaMs: int64(g.IntN(8)), Seen: index - 1}
	if g.chance(20) {
		t.DeltaMs = 0
	}
	if g.chance(40) {
		t.Seen -= g.Uint64N(min(t.Seen, 10) + 1)
	}
	if g.chance(2) {
		t.DeltaMs = -1
	}
	t.Number, t.DeltaMs, t.Seen = extreme(g, t.Number), extreme(g, t.DeltaMs), extreme(g, t.Seen)
	return t
}

// extreme draws, instead of a number, seldom one at the ends of its type.
func extreme[T int64 | uint64](g *generator, usual T) T {
	if !g.chance(1) {
		return usual
	}
	return T(pick(g, []uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<62 + 1, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2,
		1<<64 - 1}))
}

// alarm disarms much more than it raises, so that most commands run.
func (g *generator) alarm() *pb.AlarmRequest {
	r := &pb.AlarmRequest{MemberID: g.Uint64N(2), Alarm: pb.AlarmType(g.IntN(3)), Action: pb.AlarmRequest_DEACTIVATE}
	if n := len(g.now.Alarms()); n > 0 && g.chance(80) {
		a := pick(g, g.now.Alarms())
		r.MemberID, r.Alarm = a.MemberID, a.Alarm
	} else if g.chance(60) {
		r.Action = pb.AlarmRequest_ACTIVATE
	}
	if g.chance(20) {
		r.Action = pb.AlarmRequest_GET
	}
	if g.chance(3) {
		r.Action = 9
	}
	return r
}

func (g *generator) member() *raftv1.Member {
	m := &raftv1.Member{Id: g.Uint64N(4)}
	if g.chance(50) {
		m.Name = fmt.Sprint("m", g.IntN(3))
	}
	if g.chance(50) {
		m.PeerUrls = []string{fmt.Sprint("http://p", g.IntN(3))}
	}
	if g.chance(50) {
		m.ClientUrls = []string{fmt.Sprint("http://c", g.IntN(3))}
	}
	if g.chance(50) { // never above what this release knows: a raise to more ends a replica, see TestVersionRaise
		m.MinVersion, m.MaxVersion = uint32(g.Uint64N(2)), uint32(raftv1.MaxVersion)
	}
	return m
}

// scripted is a procedure that does what its request lists and answers with all that it saw.
type scripted struct{}

// action is one act of a script. Do names a method of Step.
type action struct {
	Do              string
	Key, End, Value []byte
	Lease           int64
	Attachment      statemachine.Attachment
}

func (g *generator) script() []byte {
	var script []action
	for range g.IntN(6) {
		a := action{Do: pick(g, []string{
			"get", "scan", "children", "put", "put", "entry", "entry", "touch", "delete", "next", "alive", "keys",
			"attachment", "session", "clock",
			"refuse", "attempt", "broken", "mend",
		})}
		a.Key, a.End = g.keys()
		a.Value = g.value()
		if g.chance(30) {
			a.Lease = g.lease()
		}
		if a.Attachment.Kind = g.Uint64N(2); g.chance(50) {
			a.Attachment.LingerMS = int64(g.IntN(20))
		}
		script = append(script, a)
	}
	data, err := json.Marshal(script)
	if err != nil {
		panic(err)
	}
	return data
}

func (scripted) Name() string { return "test.script.v1" }

func (scripted) Kind() coordv1.Kind { return scriptKind }

func (scripted) Request() proto.Message { return nil }

// scriptKind is that of a recipe: the procedures of this package's tests are no recipes.
const scriptKind = coordv1.Kind_KIND_ACQUIRE

// Frees implements statemachine.Procedure.
func (scripted) Frees() bool { return false }

func (scripted) Run(s statemachine.Step, request []byte) ([]byte, error) {
	var script []action
	if err := json.Unmarshal(request, &script); err != nil {
		return nil, statemachine.ErrInvalid
	}
	if len(script) == 0 {
		return nil, statemachine.ErrKeyNotFound // a refusal of its own
	}
	saw := fmt.Appendf(nil, "at %d\n", s.Revision())
	for i, a := range script {
		switch a.Do {
		case "refuse": // whatever was done
			return nil, statemachine.NewRefusal(coordv1.Error_REASON_NOT_HOLDER, string(saw))
		case "attempt": // all that follows, in vain
			err := s.Attempt(func() error {
				for _, a := range script[i+1:] {
					saw = fmt.Appendf(saw, "%s %q %d: %s\n", a.Do, a.Key, s.Revision(), a.run(s))
				}
				return statemachine.ErrInvalid
			})
			saw = fmt.Appendf(saw, "%d %s\n", s.Revision(), refusal(err))
		}
		saw = fmt.Appendf(saw, "%s %q %d: %s\n", a.Do, a.Key, s.Revision(), a.run(s))
	}
	return saw, nil
}

func (a action) run(s statemachine.Step) string {
	switch a.Do {
	case "get":
		return keyValue(s.Get(a.Key))
	case "scan":
		out := ""
		s.Scan(a.Key, a.End, func(kv *kv) bool {
			out += keyValue(kv) + ";"
			return len(out) < 100
		})
		return out
	case "children":
		out := ""
		parent := a.Key
		if i := bytes.LastIndexByte(parent, '/'); i >= 0 {
			parent = parent[:i]
		}
		s.Children(parent, func(kv *kv) bool {
			out += keyValue(kv) + ";"
			return len(out) < 100
		})
		return out
	case "put":
		rev, err := s.Put(a.Key, a.Value, a.Lease)
		return fmt.Sprint(rev, refusal(err))
	case "entry":
		rev, err := s.PutEntry(a.Key, a.Value, cmp.Or(a.Lease, s.Session()), a.Attachment)
		return fmt.Sprint(rev, refusal(err))
	case "touch":
		rev, err := s.Touch(a.Key)
		return fmt.Sprint(rev, refusal(err))
	case "attachment":
		return fmt.Sprint(s.Attachment(cmp.Or(a.Lease, s.Session(), s.Get(a.Key).GetLease()), a.Key))
	case "session":
		return fmt.Sprint(s.Session(), s.IsSession(a.Lease))
	case "delete":
		had, err := s.Delete(a.Key)
		return fmt.Sprint(had, refusal(err))
	case "next":
		s.NextRevision()
	case "alive":
		return fmt.Sprint(s.LeaseAlive(a.Lease))
	case "keys":
		return fmt.Sprintf("%q", s.LeaseKeys(a.Lease))
	case "broken":
		return fmt.Sprint(s.Broken(string(a.Key)))
	case "mend":
		s.Mend(string(a.Key))
	case "clock":
		return fmt.Sprint(s.ClockMS())
	}
	return ""
}

func keyValue(kv *kv) string {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(kv)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%q", data)
}
