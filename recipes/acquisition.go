package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// acquisition is what an owner wants of one queue, by a request of a session or of the unary API: an entry that holds,
// now or after having waited.
type acquisition struct {
	queue    string
	kind     uint64 // to be noted with the entry
	entry    Entry  // its lease, owner id and value, and what it wants
	try      bool   // only if it holds at once
	resumes  bool   // there is an entry; it stays what it is
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
	if !a.resumes { // its value may have been proclaimed since
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

// acquired answers a session's acquisition.
func (a *acquisition) acquired(step statemachine.Step, enter enterFunc) (proto.Message, error) {
	resp := &coordv1.Acquired{Revision: step.Revision()}
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

// entryRequest is what the requests of sessions for one entry have in common.
type entryRequest interface {
	GetName() string
	GetOwnerId() string
	GetOwner() string
	GetLabels() map[string]string
}

// newAcquisition checks a session's request for an entry that says who its owner is.
func newAcquisition(
	step statemachine.Step, kind uint64, req entryRequest, try bool, lingerMS int64,
) (*acquisition, error) {
	if err := CheckName(req.GetName()); err != nil {
		return nil, err
	}
	lease, err := checkOwner(step, req.GetOwnerId(), lingerMS)
	if err != nil {
		return nil, err
	}
	value, err := EncodeIdentity(req.GetOwner(), req.GetLabels())
	if err != nil {
		return nil, err
	}
	return &acquisition{
		queue: layout.QueueOf(coordv1.QueueKind(kind), req.GetName()), kind: kind, try: try, lingerMS: lingerMS,
		entry: Entry{Lease: lease, OwnerID: req.GetOwnerId(), Value: value},
	}, nil
}
