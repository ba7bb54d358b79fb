package machine

import (
	"errors"
	"fmt"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// batch is the application of some log entries: it gathers their writes in the overlay, and what the observer is told.
// Nothing of it is visible to readers before commit.
//
// A read of the store that fails ends the replica: the first such error is kept in err, what follows is of no
// consequence, and Update returns it instead of committing.
type batch struct {
	m   *Machine
	kv  *mvcc.Tx
	err error
	at  place // what is being applied

	failed place // where err was

	index     uint64 // log index of the current entry
	compacted statemachine.Revision
	applied   statemachine.Applied
	// want says that somebody on this member waits for the results of the current entry, keep that those of the current
	// command are stored.
	want, keep bool
	// renewals and outcomes count the rows of renewals and of outcomes written at the current index.
	renewals, outcomes uint32
	// unixMS is the proposer's wall clock as the current command says, 0 if it does not.
	unixMS int64
	// by is who asked for the current command.
	by raftv1.Principal
	// reacted is how many of applied.Events the reactor has dealt with.
	reacted int
	again   changedAgain
	// swept is the revision of the last sweep.
	swept statemachine.Revision
	// looks is how many versions the reactions of the running tick went through.
	looks int
	// frees says that the step gives something back, see react.
	frees bool
	// toHash ends the batch after the current entry: a StateHash command asks for the state at its index.
	toHash bool
}

func newBatch(m *Machine) *batch {
	return &batch{
		m: m, kv: mvcc.NewTx(m.overlay, m.revision), compacted: m.compacted,
		applied: statemachine.Applied{Index: m.index},
	}
}

// fail keeps the first error that the replica cannot go on after.
func (b *batch) fail(err error) {
	if b.err == nil && err != nil {
		b.err, b.failed = err, b.at
	}
}

// entry applies one entry of the log.
func (b *batch) entry(e sm.Entry) {
	b.index, b.renewals, b.outcomes = e.Index, 0, 0
	b.applied.Index, b.at = e.Index, place{index: e.Index}
	if len(e.Cmd) == 0 {
		return
	}
	entry, err := raftv1.DecodeEntry(e.Cmd)
	switch {
	case errors.Is(err, raftv1.ErrUnknown):
		b.fail(err)
		return
	case err != nil:
		// No version of this program proposed it, so no one waits for it. Every replica passes over it alike.
		b.m.unparsed.Add(1)
		b.m.log.Error("passing over a log entry", zapIndex(e.Index), zapError(err))
		return
	}
	if entry.Version > b.m.version { // as no proposer makes one
		b.m.unparsed.Add(1)
		b.m.log.Error("passing over a log entry of a later version than the cluster's", zapIndex(e.Index))
		return
	}
	b.at.entry = entry
	result := statemachine.EntryResult{Member: entry.Member, Boot: entry.Boot, Start: entry.Start, Number: entry.Number}
	if a := b.m.executed.admit(entry); a != admitted {
		result.Duplicate, result.Displaced = a == duplicate, a == displaced
		b.applied.Entries = append(b.applied.Entries, result)
		return
	}
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceExecuted, entry.Member), b.m.executed.row(entry.Member))
	b.want = entry.Member == b.m.opts.Member && entry.Boot == b.m.opts.Boot && entry.Start == b.m.opts.Start
	for i, c := range entry.Commands {
		b.keep, b.unixMS = false, 0
		b.at = place{index: e.Index, entry: entry, command: i + 1}
		r := b.run(c)
		if b.err != nil {
			return
		}
		if b.want {
			result.Results = append(result.Results, r)
		}
	}
	b.applied.Entries = append(b.applied.Entries, result)
}

// run applies one command. Ticks and requests consist of steps of their own, everything else is one.
func (b *batch) run(c raftv1.Command) (r statemachine.Result) {
	switch {
	case c.Kind == raftv1.KindRequests, c.Kind == raftv1.KindTick:
		// refused is each request, as its outcome, and each reaction
		return b.command(c)
	case b.refuses():
		return refuse(statemachine.ErrRefusedByOperator)
	}
	if err := b.step(func() error {
		r = b.command(c)
		return r.Err
	}); err != nil {
		return refuse(err)
	}
	return r
}

// command applies one command, of one revision at most (a tick, a call and requests may take several).
func (b *batch) command(c raftv1.Command) statemachine.Result {
	b.by = c.By
	if b.m.schema.Later(b.m.version) { // no proposer lets it into the log
		if err := b.m.schema.Check(c, b.m.version); err != nil {
			return refuse(fmt.Errorf("%w: %w", statemachine.ErrInvalid, err))
		}
		c = b.m.schema.Strip(c, b.m.version)
	}
	switch c.Kind {
	case raftv1.KindPut:
		return decoded(b, c, b.put)
	case raftv1.KindDeleteRange:
		return decoded(b, c, b.deleteRange)
	case raftv1.KindTxn:
		return decoded(b, c, b.txn)
	case raftv1.KindCompact:
		return decoded(b, c, b.compact)
	case raftv1.KindLeaseGrant:
		return decoded(b, c, b.leaseGrant)
	case raftv1.KindLeaseRevoke:
		return decoded(b, c, b.leaseRevoke)
	case raftv1.KindLeaseRenew:
		return decoded(b, c, b.leaseRenew)
	case raftv1.KindTick:
		return decoded(b, c, b.tick)
	case raftv1.KindAlarm:
		return decoded(b, c, b.alarm)
	case raftv1.KindMemberPut:
		return decoded(b, c, b.memberPut)
	case raftv1.KindMemberRemove:
		return decoded(b, c, b.memberRemove)
	case raftv1.KindStateHash:
		b.toHash = true
		return statemachine.Result{Response: statemachine.Hashed{Index: b.index, Revision: b.kv.Revision()}}
	case raftv1.KindCall:
		return decoded(b, c, b.call)
	case raftv1.KindSessionOpen:
		return decoded(b, c, b.sessionOpen)
	case raftv1.KindSessionAttach:
		return decoded(b, c, b.sessionAttach)
	case raftv1.KindSessionEnd:
		return decoded(b, c, b.sessionEnd)
	case raftv1.KindStreamRenew:
		return decoded(b, c, b.streamRenew)
	case raftv1.KindRequests:
		return b.requests(c.Body)
	case raftv1.KindVersionRaise:
		return decoded(b, c, b.raiseVersion)
	case raftv1.KindHistoryBegin:
		return decoded(b, c, b.beginHistory)
	}
	if !c.Kind.Unknown() {
		b.m.unparsed.Add(1)
		return refuse(fmt.Errorf("%w: %v", statemachine.ErrInvalid, c.Kind))
	}
	b.fail(fmt.Errorf("%w: a command of %v", raftv1.ErrUnknown, c.Kind))
	return statemachine.Result{}
}

// get reads the latest version of key, which is shared.
func (b *batch) get(key []byte) *mvccpb.KeyValue {
	kv, err := b.kv.Latest(key)
	b.fail(err)
	return kv
}

// scan reads the latest versions in r until fn returns false.
func (b *batch) scan(r mvcc.Range, fn func(*mvccpb.KeyValue) bool) {
	b.fail(mvcc.ScanLatest(b.kv.Rows(), r, fn))
}

// children reads the latest versions of the keys directly below parent that were created at from or later, oldest
// first, until fn returns false.
func (b *batch) children(parent []byte, from statemachine.Revision, fn func(*mvccpb.KeyValue) bool) {
	b.fail(mvcc.ChildrenFrom(b.kv.Rows(), parent, from, fn))
}

// putKey writes a version of key, attached to lease, and notes the event. What was noted with an attachment is
// forgotten.
func (b *batch) putKey(key, value []byte, lease statemachine.LeaseID, prev *mvccpb.KeyValue) *mvccpb.KeyValue {
	return b.putEntry(key, value, lease, statemachine.Attachment{}, prev)
}

// putEntry is putKey, and notes a with the attachment.
func (b *batch) putEntry(
	key, value []byte, lease statemachine.LeaseID, a statemachine.Attachment, prev *mvccpb.KeyValue,
) *mvccpb.KeyValue {
	kv := b.putVersion(key, value, lease, prev)
	if lease != 0 {
		b.kv.Rows().Set(mvcc.LeaseKeyKey(lease, key), attachmentRow(a))
	}
	return kv
}

// putVersion is putKey but for the row of the attachment to lease.
func (b *batch) putVersion(key, value []byte, lease statemachine.LeaseID, prev *mvccpb.KeyValue) *mvccpb.KeyValue {
	kv := b.kv.Put(key, value, lease, prev)
	if prev != nil && prev.Lease != lease && prev.Lease != 0 {
		b.kv.Rows().Delete(mvcc.LeaseKeyKey(prev.Lease, key))
		b.endLingering(prev.Lease)
	}
	b.note(mvccpb.Event_PUT, kv, prev)
	return kv
}

// deleteKey deletes the key whose latest version is prev, and notes the event.
func (b *batch) deleteKey(prev *mvccpb.KeyValue) {
	kv := b.kv.Delete(prev)
	if prev.Lease != 0 {
		b.kv.Rows().Delete(mvcc.LeaseKeyKey(prev.Lease, prev.Key))
		b.endLingering(prev.Lease)
	}
	b.note(mvccpb.Event_DELETE, kv, prev)
}

// note adds the event of a change of the key whose latest version was prev. A transaction may change a key twice; the
// previous version of both events is then the one before the transaction, as in etcd, but for a key that the
// transaction deleted and created: that has none.
func (b *batch) note(kind mvccpb.Event_EventType, kv, prev *mvccpb.KeyValue) {
	switch {
	case kind == mvccpb.Event_PUT && kv.CreateRevision == kv.ModRevision:
		prev = nil
	case prev != nil && prev.ModRevision == kv.ModRevision && b.swept == kv.ModRevision:
		// the event of a sweep does not tell
		var err error
		prev, _, err = mvcc.At(b.kv.Rows(), kv.Key, kv.ModRevision-1)
		b.fail(err)
	case prev != nil && prev.ModRevision == kv.ModRevision:
		prev = b.again.before(b.applied.Events, kv)
	}
	b.applied.Events = append(b.applied.Events, statemachine.Event{Type: kind, Kv: kv, PrevKv: prev})
}

// changedAgain knows, of a revision that changes a key twice, what the keys were before it: nothing need be looked for
// more than once, however often that happens.
type changedAgain struct {
	prev map[string]*mvccpb.KeyValue // by key: of its first event
	last *mvccpb.KeyValue            // of the last event that is in prev
	next int                         // the event behind it
}

// before is what the key of kv was before the revision of kv, whose events are the last ones.
func (c *changedAgain) before(events []statemachine.Event, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	if c.last == nil || c.last.ModRevision != kv.ModRevision || c.next > len(events) || events[c.next-1].Kv != c.last {
		*c = changedAgain{prev: make(map[string]*mvccpb.KeyValue), next: len(events)}
		for c.next > 0 && events[c.next-1].Kv.ModRevision == kv.ModRevision {
			c.next--
		}
	}
	for ; c.next < len(events); c.next++ {
		e := events[c.next]
		if _, ok := c.prev[string(e.Kv.Key)]; !ok {
			c.prev[string(e.Kv.Key)] = e.PrevKv
		}
		c.last = e.Kv
	}
	return c.prev[string(kv.Key)]
}
