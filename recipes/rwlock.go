package recipes

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// KindRWLock is what Attachment.Kind says of an entry.
const KindRWLock = uint64(coordv1.QueueKind_QUEUE_RWLOCK)

// Names of the procedures of read-write locks.
const (
	RWAcquire   = "rw-acquire.v1"   // coordv1.RWAcquire, Acquired
	RWDowngrade = "rw-downgrade.v1" // coordv1.RWDowngrade, RWDowngraded
)

func rwLockProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(RWAcquire, coordv1.Kind_KIND_RW_ACQUIRE, rwAcquire)),
		requested(RWDowngrade, coordv1.Kind_KIND_RW_DOWNGRADE, rwDowngrade),
	}
}

// Refusals of read-write locks.
var (
	// ErrUpgrade: a reader of a read-write lock cannot become a writer.
	ErrUpgrade error = &refusal{
		reason: coordv1.Error_REASON_UPGRADE, text: "a reader cannot become a writer: release first",
	}
)

// The read-write lock; see service RWLock for what it promises. A writer is let in if nobody is before it, a reader if
// no writer is. Nobody overtakes, so a reader that came after a waiting writer waits for it.

// readWrite is the rule of read-write locks.
var readWrite = counted{
	inOrder: byCounts,
	room: func(t *recipesv1.Tally, _ *mvccpb.KeyValue) room {
		return &readWriteRoom{readers: t.Inside - t.InsideWriters, writers: t.InsideWriters}
	},
}

// readWriteRoom is for one writer, or for readers.
type readWriteRoom struct{ readers, writers int64 }

func (r *readWriteRoom) admits(e Entry) bool { return r.writers == 0 && (!e.Write || r.readers == 0) }

func (r *readWriteRoom) add(e Entry) {
	if e.Write {
		r.writers++
	} else {
		r.readers++
	}
}

// rwAcquire makes a reader or a writer.
func rwAcquire(step statemachine.Step, req *coordv1.RWAcquire) (proto.Message, error) {
	a, err := newAcquisition(step, KindRWLock, req, req.Try, req.LingerMs)
	if err != nil {
		return nil, err
	}
	a.entry.Write = req.Write
	return a.acquired(step, enterRWLock)
}

// enterRWLock makes a reader or a writer. An entry stays what it is: ErrUpgrade, ErrKeyTaken.
func enterRWLock(step statemachine.Step, a *acquisition) (*ownersEntry, bool, error) {
	own, err := findByCounts(step, a.queue, func(t *recipesv1.Tally, e Entry) bool {
		return readWrite.admits(t, nil, e)
	}, a.entry)
	switch {
	case err != nil:
		return nil, false, err
	case a.resumes != 0 || own.entry.Write == a.entry.Write:
	case a.entry.Write:
		return nil, false, refuse(ErrUpgrade, "%q", own.key)
	default:
		return nil, false, refuse(ErrKeyTaken, "%q is a writer's", own.key)
	}
	made, err := a.take(step, own)
	return own, made, err
}

// rwDowngrade makes a writer that holds a reader; the readers right behind it hold in the same commit.
func rwDowngrade(step statemachine.Step, req *coordv1.RWDowngrade) (proto.Message, error) {
	g := req.GetEntry()
	queue, err := checkEntry(g.GetName(), g.GetKey(), g.GetToken())
	if err != nil {
		return nil, err
	}
	if layout.KindOf(queue) != coordv1.QueueKind_QUEUE_RWLOCK {
		return nil, invalid("key %q is not one of a read-write lock", g.Key)
	}
	if err := mended(step, queue); err != nil {
		return nil, err
	}
	t, err := countsOf(step, queue)
	if err != nil {
		return nil, err
	}
	e, ok := entryOf(queue, step.Get([]byte(g.Key)))
	if !ok || !holds(step, queue, e, g.Token) {
		return nil, refuse(ErrNotHolder, "%q with token %d", g.Key, g.Token)
	}
	if !e.Write {
		return &coordv1.RWDowngraded{Revision: step.Revision()}, nil
	}
	e.Write = false
	note := step.Attachment(e.Lease, []byte(e.Key))
	rev, err := step.PutEntry([]byte(e.Key), encodeValue(KindRWLock, e), e.Lease, note)
	if err != nil {
		return nil, err
	}
	t.Writers--
	t.InsideWriters--
	readWrite.letIn(step, queue, t, nil)
	if err := putCounts(step, queue, t); err != nil {
		return nil, err
	}
	return &coordv1.RWDowngraded{Downgraded: true, Revision: rev}, nil
}
