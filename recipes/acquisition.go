package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// acquisition is what an owner wants of one queue, by a request in a session or for one: an entry that holds, now or
// after having waited.
type acquisition struct {
	queue    string
	kind     uint64 // to be noted with the entry
	entry    Entry  // its lease, owner id and value, and what it wants
	try      bool   // only if it holds at once
	resumes  int64  // if not 0: there is an entry with this token; it stays what it is
	lingerMS int64
	limit    int64 // of a semaphore
	parties  int64 // of a barrier
}

// enterFunc makes the entry that an acquisition wants, or takes over the one there is. made is false if it was tried
// only.
type enterFunc func(statemachine.Step, *acquisition) (own *ownersEntry, made bool, err error)

// enterPlain is for queues in etcd's layout.
func enterPlain(step statemachine.Step, a *acquisition) (*ownersEntry, bool, error) {
	own, err := findInFront(step, a.queue, a.entry, a.kind)
	if err != nil {
		return nil, false, err
	}
	made, err := a.take(step, own)
	return own, made, err
}

// take makes the entry, or takes over the one there is, unless it is tried only and would not hold.
func (a *acquisition) take(step statemachine.Step, own *ownersEntry) (made bool, err error) {
	if a.try && !own.holds {
		return false, nil
	}
	if a.resumes == 0 { // its value may have been proclaimed since
		own.entry.Value = a.entry.Value
	}
	if own.counts != nil && !own.exists {
		now := proto.CloneOf(own.counts)
		count(now, own.entry, 1)
		if own.holds {
			now.Holder, now.Token = []byte(own.key), own.entry.Token
			if _, ok := RuleOf(a.queue).(counted); ok {
				countInside(now, own.entry, 1)
				now.Last = own.entry.Token
			}
		}
		if err := putCounts(step, a.queue, now); err != nil {
			return false, err
		}
	}
	return true, own.enter(step, encodeValue(a.kind, own.entry),
		statemachine.Attachment{Kind: a.kind, LingerMS: a.lingerMS})
}

// enter has the entry made in a queue that is in order.
func (a *acquisition) enter(step statemachine.Step, enter enterFunc) (*ownersEntry, bool, error) {
	if err := mended(step, a.queue); err != nil {
		return nil, false, err
	}
	return enter(step, a)
}

// lost says that the entry is not there that a request wants to go on with.
func (a *acquisition) lost(step statemachine.Step) bool {
	if a.resumes == 0 {
		return false
	}
	e, ok := entryOf(a.queue, step.Get([]byte(a.key())))
	return !ok || e.Lingers || e.Foreign || e.Token != a.resumes
}

// key is that of the entry.
func (a *acquisition) key() string { return layout.EntryKey(a.queue, a.entry.Lease, a.entry.OwnerID) }

// none says that there is no entry.
func (a *acquisition) none() *coordv1.AcquiredEntry {
	return &coordv1.AcquiredEntry{Name: layout.NameOf(a.queue), Key: a.key()}
}

// keepLinger has an entry that is there keep its linger, if the request is not for who may say another one.
func (a *acquisition) keepLinger(step statemachine.Step) {
	if a.resumes != 0 || step.Session() == 0 {
		a.lingerMS = step.Attachment(a.entry.Lease, []byte(a.key())).LingerMS
	}
}

// acquired makes the entry and answers the request.
func (a *acquisition) acquired(step statemachine.Step, enter enterFunc) (proto.Message, error) {
	resp := &coordv1.Acquired{Revision: step.Revision()}
	if a.lost(step) {
		resp.Entries = []*coordv1.AcquiredEntry{a.none()}
		return resp, nil
	}
	own, made, err := a.enter(step, enter)
	if err != nil {
		return nil, err
	}
	if made {
		resp.Revision = own.entry.Claim
	}
	resp.Entries = []*coordv1.AcquiredEntry{own.answer(step, layout.NameOf(a.queue), a.kind, made)}
	return resp, nil
}

// ownersRequest is what the requests for entries have in common.
type ownersRequest interface {
	GetOwnerId() string
	GetLease() int64
	GetResumeToken() int64
}

// entryRequest is one for one entry that says who its owner is.
type entryRequest interface {
	ownersRequest
	GetName() string
	GetOwner() string
	GetLabels() map[string]string
}

// newAcquisition checks a request for an entry that says who its owner is.
func newAcquisition(
	step statemachine.Step, kind uint64, req entryRequest, try bool, lingerMS int64,
) (*acquisition, error) {
	if err := CheckName(req.GetName()); err != nil {
		return nil, err
	}
	lease, err := checkOwner(step, req, lingerMS)
	if err != nil {
		return nil, err
	}
	value, err := EncodeIdentity(req.GetOwner(), req.GetLabels())
	if err != nil {
		return nil, err
	}
	a := &acquisition{
		queue: layout.QueueOf(coordv1.QueueKind(kind), req.GetName()), kind: kind, try: try, lingerMS: lingerMS,
		resumes: req.GetResumeToken(), entry: Entry{Lease: lease, OwnerID: req.GetOwnerId(), Value: value},
	}
	a.keepLinger(step)
	return a, nil
}

// checkOwner checks who an entry shall be of, and returns the session.
func checkOwner(step statemachine.Step, req ownersRequest, lingerMS int64) (statemachine.LeaseID, error) {
	if err := CheckOwnerID(req.GetOwnerId()); err != nil {
		return 0, err
	}
	if lingerMS < 0 || lingerMS > MaxLingerMS {
		return 0, invalid("linger_ms %d is not between 0 and %d", lingerMS, MaxLingerMS)
	}
	return sessionFor(step, req.GetLease())
}
