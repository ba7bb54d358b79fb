package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// acquire makes one entry in each queue, all at one revision. So two owners stand in the same order in all queues that
// both are in, and never wait for each other.
func acquire(step statemachine.Step, req *coordv1.Acquire) (proto.Message, error) {
	value, lease, err := checkAcquire(step, req)
	if err != nil {
		return nil, err
	}
	entries, hold := make([]*ownersEntry, len(req.Names)), true
	for i, name := range req.Names {
		if entries[i], err = findInFront(step, name, Entry{Lease: lease, OwnerID: req.OwnerId}, KindLock); err != nil {
			return nil, err
		}
		hold = hold && entries[i].holds
		if own, first := entries[i], entries[0]; own.exists != first.exists || own.entry.Token != first.entry.Token {
			return nil, refuse(ErrKeyTaken, "%q and %q are not of one acquire", first.key, own.key)
		}
	}
	made := hold || !req.Try
	resp := &coordv1.Acquired{Revision: step.Revision()}
	for i, own := range entries {
		if made {
			if err := own.enter(step, value,
				statemachine.Attachment{Kind: KindLock, LingerMS: req.LingerMs}); err != nil {
				return nil, err
			}
			resp.Revision = own.entry.Claim
		}
		resp.Entries = append(resp.Entries, own.answer(step, req.Names[i], KindLock, made))
	}
	return resp, nil
}

func checkAcquire(step statemachine.Step, req *coordv1.Acquire) (value []byte, lease statemachine.LeaseID, err error) {
	if n := len(req.Names); n == 0 || n > MaxNames {
		return nil, 0, invalid("%d names, not between 1 and %d", n, MaxNames)
	}
	seen := make(map[string]bool, len(req.Names))
	for _, name := range req.Names {
		if err := CheckName(name); err != nil {
			return nil, 0, err
		}
		if seen[name] {
			return nil, 0, invalid("name %q is there twice", name)
		}
		seen[name] = true
	}
	if lease, err = checkOwner(step, req.OwnerId, req.LingerMs); err != nil {
		return nil, 0, err
	}
	value, err = EncodeIdentity(req.Owner, req.Labels)
	return value, lease, err
}

func checkOwner(step statemachine.Step, ownerID string, lingerMS int64) (statemachine.LeaseID, error) {
	if err := CheckOwnerID(ownerID); err != nil {
		return 0, err
	}
	if lingerMS < 0 || lingerMS > MaxLingerMS {
		return 0, invalid("linger_ms %d is not between 0 and %d", lingerMS, MaxLingerMS)
	}
	return sessionOf(step)
}

// campaign makes a candidate.
func campaign(step statemachine.Step, req *coordv1.Campaign) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	if err := checkValue(req.Value); err != nil {
		return nil, err
	}
	lease, err := checkOwner(step, req.OwnerId, req.LingerMs)
	if err != nil {
		return nil, err
	}
	if req.Priority != 0 {
		return campaignByPriority(step, req, lease)
	}
	a := &acquisition{
		queue: req.Name, kind: KindElection, try: req.Try, lingerMS: req.LingerMs,
		entry: Entry{Lease: lease, OwnerID: req.OwnerId, Value: req.Value},
	}
	return a.acquired(step, enterPlain)
}

// proclaimRequest gives the leader's entry a new value.
func proclaimRequest(step statemachine.Step, req *coordv1.Proclaim) (proto.Message, error) {
	rev, err := setValue(step, req.Entry.GetName(), req.Entry.GetKey(), req.Entry.GetToken(), req.Value)
	if err != nil {
		return nil, err
	}
	return &coordv1.Proclaimed{Revision: rev}, nil
}
