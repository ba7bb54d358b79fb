package recipes

import (
	"errors"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// The steps of the unary services, which name the session in the request.

// enqueueAs makes the owner's entry, or takes over the one it has, in a queue of a kind. It scans only as far as it
// must: a bounded part of the queue, and what decides whether it holds, so a long queue does not slow the log down.
func enqueueAs(kind uint64, enter enterFunc) func(statemachine.Step, *recipesv1.Enqueue) (proto.Message, error) {
	return func(step statemachine.Step, req *recipesv1.Enqueue) (proto.Message, error) {
		if err := checkEnqueue(step, req); err != nil {
			return nil, err
		}
		queue := layout.QueueOf(coordv1.QueueKind(kind), req.Name)
		key := layout.EntryKey(queue, req.Lease, req.OwnerId)
		if req.ResumeToken != 0 && !resumes(step, queue, key, req.ResumeToken) {
			return &recipesv1.Enqueued{Key: key}, nil
		}
		a := &acquisition{
			queue: queue, kind: kind, try: req.Try, resumes: req.ResumeToken != 0,
			entry: Entry{
				Lease: req.Lease, OwnerID: req.OwnerId, Value: req.Value, Write: req.Write, Permits: req.Permits,
			},
			limit: req.Limit, parties: req.Parties, lingerMS: step.Attachment(req.Lease, []byte(key)).LingerMS,
		}
		own, made, err := a.enter(step, enter)
		switch {
		case err != nil:
			return nil, err
		case !made:
			// An entry that is there belongs to a request that waits; a try neither waits nor withdraws it.
			return &recipesv1.Enqueued{Key: own.key}, nil
		}
		return &recipesv1.Enqueued{Key: own.key, Token: own.entry.Token, Claim: own.entry.Claim, Holds: own.holds}, nil
	}
}

func checkEnqueue(step statemachine.Step, req *recipesv1.Enqueue) error {
	if err := CheckName(req.Name); err != nil {
		return err
	}
	if err := CheckOwnerID(req.OwnerId); err != nil {
		return err
	}
	if req.Lease <= 0 {
		return invalid("lease %d: a session's lease is positive", req.Lease)
	}
	if !step.LeaseAlive(req.Lease) {
		return statemachine.ErrLeaseNotFound
	}
	return nil
}

// resumes says whether the entry that a request wants to go on with is there.
func resumes(step statemachine.Step, queue, key string, token int64) bool {
	e, ok := entryOf(queue, step.Get([]byte(key)))
	return ok && !e.Lingers && !e.Foreign && e.Token == token
}

// remove deletes the entry of the token, if the claim, where one is given, is still the last.
func remove(step statemachine.Step, req *recipesv1.Remove) (proto.Message, error) {
	queue, err := checkEntry(req.Name, req.Key, req.Token)
	if err != nil {
		return nil, err
	}
	claim, ok, err := granted(step, queue, req.Key, req.Token)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return &recipesv1.Removed{Outcome: recipesv1.Removed_GONE}, nil
	case req.Claim != 0 && claim != req.Claim:
		return &recipesv1.Removed{Outcome: recipesv1.Removed_SUPERSEDED}, nil
	}
	if _, err := step.Delete([]byte(req.Key)); err != nil {
		return nil, err
	}
	return &recipesv1.Removed{Outcome: recipesv1.Removed_REMOVED}, nil
}

// proclaim gives the leader's entry a new value.
func proclaim(step statemachine.Step, req *recipesv1.Proclaim) (proto.Message, error) {
	if _, err := setValue(step, req.Name, req.Key, req.Term, req.Value); err != nil {
		return nil, err
	}
	return &recipesv1.Proclaimed{}, nil
}

// setValue gives the leader's entry a new value and returns the revision of the write.
func setValue(step statemachine.Step, name, key string, term int64, value []byte) (statemachine.Revision, error) {
	queue, err := checkEntry(name, key, term)
	if err != nil {
		return 0, err
	}
	if err := checkValue(value); err != nil {
		return 0, err
	}
	e, ok := entryOf(queue, step.Get([]byte(key)))
	if !ok || !holds(step, queue, e, term) {
		return 0, refuse(ErrNotHolder, "%q in term %d", key, term)
	}
	note := step.Attachment(e.Lease, []byte(key))
	if HasIdentity(coordv1.QueueKind(notedKind(step, queue, e))) {
		return 0, refuse(ErrWrongKind, "%q is no election", name)
	}
	if ByPriority(queue) {
		value = encodeCandidate(e, value)
	}
	return putNoted(step, key, value, e.Lease, note)
}

func checkValue(value []byte) error {
	if len(value) > MaxValueLen {
		return invalid("value has %d bytes, more than %d", len(value), MaxValueLen)
	}
	return nil
}

// putNoted writes an entry again with what was noted of it. Of an etcd client's entry nothing was.
func putNoted(
	step statemachine.Step, key string, value []byte, lease statemachine.LeaseID, note statemachine.Attachment,
) (statemachine.Revision, error) {
	if note.Kind == 0 {
		return step.Put([]byte(key), value, lease)
	}
	return step.PutEntry([]byte(key), value, lease, note)
}

// enter makes the owner's entry, or takes over the one it has: same token and position, a new claim.
func (own *ownersEntry) enter(step statemachine.Step, value []byte, note statemachine.Attachment) error {
	if own.exists {
		note.SinceUnixMS = step.Attachment(own.entry.Lease, []byte(own.key)).SinceUnixMS
	}
	rev, err := step.PutEntry([]byte(own.key), value, own.entry.Lease, note)
	if own.exists && errors.Is(err, statemachine.ErrNoSpace) {
		// Who holds or waits already must not suffer. Nor may it go without a claim of its own: whoever gives the entry
		// up for the request before would take it away.
		rev, err = step.Touch([]byte(own.key))
	}
	if err != nil {
		return err
	}
	own.entry.Claim = rev
	if !own.exists {
		own.entry.Token = rev
	}
	return nil
}
