package recipes

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// enqueue makes the owner's entry, or takes over the one it has. It scans only as far as it must: to the first other
// entry for a new one, to the first older one for an old one, so a long queue does not slow the log down.
func enqueue(step statemachine.Step, req *recipesv1.Enqueue) (proto.Message, error) {
	if err := checkEnqueue(step, req); err != nil {
		return nil, err
	}
	key := []byte(Key(req.Name, req.Lease, req.OwnerId))
	old := step.Get(key)
	if e, ok := entryOf(req.Name, old); ok && (req.ResumeToken == 0 || req.ResumeToken == e.Token) {
		return takeOver(step, req, e)
	}
	if req.ResumeToken != 0 {
		return &recipesv1.Enqueued{Key: string(key)}, nil
	}
	if old != nil {
		// Written over, it would lend us its create revision: a place in the queue and a token that may be passed already.
		return nil, fmt.Errorf("%w: %q", ErrKeyTaken, key)
	}
	holds := isEmpty(step, req.Name)
	if req.Try && !holds {
		return &recipesv1.Enqueued{Key: string(key)}, nil
	}
	rev, err := step.Put(key, req.Value, req.Lease)
	if err != nil {
		return nil, err
	}
	return &recipesv1.Enqueued{Key: string(key), Token: rev, Claim: rev, Holds: holds}, nil
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

// takeOver answers a repeated request: same token, same place, a new claim.
func takeOver(step statemachine.Step, req *recipesv1.Enqueue, e Entry) (proto.Message, error) {
	holds := Holds(step, req.Name, e)
	if req.Try && !holds {
		// The entry belongs to a request that waits; a try neither waits nor withdraws it.
		return &recipesv1.Enqueued{Key: e.Key}, nil
	}
	value := req.Value
	if req.ResumeToken != 0 {
		value = e.Value // it may have been proclaimed since
	}
	claim, err := step.Put([]byte(e.Key), value, req.Lease)
	if errors.Is(err, statemachine.ErrNoSpace) {
		// Who holds or waits already must not suffer. Nor may it go without a claim of its own: whoever gives the entry up
		// for the request before would take it away.
		claim, err = step.Touch([]byte(e.Key))
	}
	if err != nil {
		return nil, err
	}
	return &recipesv1.Enqueued{Key: e.Key, Token: e.Token, Claim: claim, Holds: holds}, nil
}

// remove deletes the entry if its create revision is the token, and if the claim, where one is given, is still the last.
func remove(step statemachine.Step, req *recipesv1.Remove) (proto.Message, error) {
	if err := checkEntry(req.Name, req.Key, req.Token); err != nil {
		return nil, err
	}
	old := step.Get([]byte(req.Key))
	switch {
	case old == nil || old.CreateRevision > req.Token:
		return &recipesv1.Removed{Outcome: recipesv1.Removed_GONE}, nil
	case old.CreateRevision < req.Token:
		return nil, fmt.Errorf("%w: %q has %d, not %d", ErrTokenMismatch, req.Key, old.CreateRevision, req.Token)
	case req.Claim != 0 && old.ModRevision != req.Claim:
		return &recipesv1.Removed{Outcome: recipesv1.Removed_SUPERSEDED}, nil
	}
	if _, err := step.Delete([]byte(req.Key)); err != nil {
		return nil, err
	}
	return &recipesv1.Removed{Outcome: recipesv1.Removed_REMOVED}, nil
}

// proclaim gives the leader's entry a new value.
func proclaim(step statemachine.Step, req *recipesv1.Proclaim) (proto.Message, error) {
	if err := checkEntry(req.Name, req.Key, req.Term); err != nil {
		return nil, err
	}
	e, ok := entryOf(req.Name, step.Get([]byte(req.Key)))
	if !ok || e.Token != req.Term || !Holds(step, req.Name, e) {
		return nil, fmt.Errorf("%w: %q in term %d", ErrNotHolder, req.Key, req.Term)
	}
	if _, err := step.Put([]byte(e.Key), req.Value, e.Lease); err != nil {
		return nil, err
	}
	return &recipesv1.Proclaimed{}, nil
}

// checkEntry says whether a request can mean an entry of name.
func checkEntry(name, key string, token int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, _, ok := ParseKey(name, key); !ok {
		return invalid("key %q is not one of an entry of %q", key, name)
	}
	if token <= 0 {
		return invalid("token %d is not positive", token)
	}
	return nil
}

func entryOf(name string, kv *mvccpb.KeyValue) (Entry, bool) {
	if kv == nil {
		return Entry{}, false
	}
	return ParseEntry(name, kv)
}

// isEmpty says whether name has no entry.
func isEmpty(step statemachine.Step, name string) bool {
	empty := true
	eachEntry(step, name, func(Entry) bool {
		empty = false
		return false
	})
	return empty
}
