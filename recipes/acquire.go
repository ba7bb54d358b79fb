package recipes

import (
	"slices"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// acquire makes one entry in each queue, all at one revision. So two owners stand in the same order in all queues that
// both are in, and never wait for each other.
func acquire(step statemachine.Step, req *coordv1.Acquire) (proto.Message, error) {
	all, err := newAcquisitions(step, req)
	if err != nil {
		return nil, err
	}
	resp := &coordv1.Acquired{Revision: step.Revision()}
	if slices.ContainsFunc(all, func(a *acquisition) bool { return a.lost(step) }) {
		for _, a := range all {
			resp.Entries = append(resp.Entries, a.none())
		}
		return resp, nil
	}
	entries, hold := make([]*ownersEntry, len(all)), true
	for i, a := range all {
		if entries[i], err = findInFront(step, a.queue, a.entry, KindLock); err != nil {
			return nil, err
		}
		hold = hold && entries[i].holds
		if own, first := entries[i], entries[0]; own.exists != first.exists || own.entry.Token != first.entry.Token {
			return nil, refuse(ErrKeyTaken, "%q and %q are not of one acquire", first.key, own.key)
		}
	}
	made := hold || !req.Try
	for i, own := range entries {
		if made {
			if _, err := all[i].take(step, own); err != nil {
				return nil, err
			}
			resp.Revision = own.entry.Claim
		}
		resp.Entries = append(resp.Entries, own.answer(step, req.Names[i], KindLock, made))
	}
	return resp, nil
}

// newAcquisitions checks a request for entries of locks.
func newAcquisitions(step statemachine.Step, req *coordv1.Acquire) ([]*acquisition, error) {
	if n := len(req.Names); n == 0 || n > MaxNames {
		return nil, invalid("%d names, not between 1 and %d", n, MaxNames)
	}
	seen := make(map[string]bool, len(req.Names))
	for _, name := range req.Names {
		if err := CheckName(name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, invalid("name %q is there twice", name)
		}
		seen[name] = true
	}
	lease, err := checkOwner(step, req, req.LingerMs)
	if err != nil {
		return nil, err
	}
	value, err := EncodeIdentity(req.Owner, req.Labels)
	if err != nil {
		return nil, err
	}
	all := make([]*acquisition, len(req.Names))
	for i, name := range req.Names {
		all[i] = &acquisition{
			queue: name, kind: KindLock, try: req.Try, resumes: req.ResumeToken, lingerMS: req.LingerMs,
			entry: Entry{Lease: lease, OwnerID: req.OwnerId, Value: value},
		}
		all[i].keepLinger(step)
	}
	return all, nil
}

// campaign makes a candidate.
func campaign(step statemachine.Step, req *coordv1.Campaign) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	if err := checkValue(req.Value); err != nil {
		return nil, err
	}
	lease, err := checkOwner(step, req, req.LingerMs)
	if err != nil {
		return nil, err
	}
	switch {
	case req.Priority != 0 && req.ResumeToken != 0:
		return nil, invalid("resume_token %d in an election with priorities", req.ResumeToken)
	case req.Priority != 0:
		return campaignByPriority(step, req, lease)
	}
	a := &acquisition{
		queue: req.Name, kind: KindElection, try: req.Try, resumes: req.ResumeToken, lingerMS: req.LingerMs,
		entry: Entry{Lease: lease, OwnerID: req.OwnerId, Value: req.Value},
	}
	a.keepLinger(step)
	return a.acquired(step, enterPlain)
}
