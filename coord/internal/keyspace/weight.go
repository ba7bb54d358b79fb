package keyspace

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/proto/wire"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// Weights of commands, for propose.Lane: how many keys they look at by what this member has applied. An estimate
// decides only when a command is proposed; the state machine counts for itself.

// maxWeighed is how many keys are counted at most, maxCandidates how many of an election with priorities: what has more
// goes alone.
const (
	maxWeighed    = 10_000
	maxCandidates = 2_000
)

// perDeleted is how much dearer it is to delete a key than to look at it, perTransfer what it takes to move all
// candidates that a transfer moves at most, perResize to look at all who wait that a resize looks at.
const (
	perDeleted  = 8
	perTransfer = 10_000
	perResize   = 1_000
)

// fewNames is how many locks one acquire takes without a weight, perName what it looks at of each of more.
const (
	fewNames = 8
	perName  = 33
)

// candidates begins the keys of elections with priorities.
var candidates = []byte(layout.QueueOf(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, ""))

// weightOf is that of a command. Requests of sessions are weighed one by one, by Weigh.
func (k *Keyspace) weightOf(kind raftv1.Kind, body []byte) int64 {
	switch kind {
	case raftv1.KindTxn, raftv1.KindDeleteRange, raftv1.KindLeaseRevoke, raftv1.KindSessionEnd, raftv1.KindCall:
	default:
		return 0
	}
	s := &scale{k: k}
	defer s.close()
	switch kind {
	case raftv1.KindCall:
		m := &raftv1.Call{}
		if proto.Unmarshal(body, m) == nil {
			s.call(m)
		}
	case raftv1.KindTxn:
		s.txn(body)
	case raftv1.KindDeleteRange:
		s.deletion(body)
	case raftv1.KindLeaseRevoke:
		m := &raftv1.LeaseRevoke{}
		if proto.Unmarshal(body, m) == nil {
			s.lease(m.Id)
		}
	case raftv1.KindSessionEnd:
		m := &raftv1.SessionEnd{}
		if proto.Unmarshal(body, m) == nil {
			s.lease(m.Id)
		}
	}
	return s.weight
}

// Weigh is the weight of a request of a session, which removes entries of these keys if it withdraws another one.
func (k *Keyspace) Weigh(kind coordv1.Kind, body []byte, removes []string) int64 {
	switch kind {
	case coordv1.Kind_KIND_TXN, coordv1.Kind_KIND_DELETE_RANGE, coordv1.Kind_KIND_LEASE_REVOKE:
	case coordv1.Kind_KIND_ACQUIRE:
		return weightOfAcquire(body)
	case coordv1.Kind_KIND_TRANSFER:
		return perTransfer
	case coordv1.Kind_KIND_SEMAPHORE_RESIZE:
		return perResize
	case coordv1.Kind_KIND_RELEASE:
		if !bytes.Contains(body, candidates) {
			return 0
		}
	case coordv1.Kind_KIND_WITHDRAW:
		if len(removes) == 0 {
			return 0
		}
	case coordv1.Kind_KIND_CAMPAIGN:
	default:
		return 0
	}
	s := &scale{k: k}
	defer s.close()
	switch kind {
	case coordv1.Kind_KIND_WITHDRAW:
		for _, key := range removes {
			s.removal([]byte(key))
		}
	case coordv1.Kind_KIND_RELEASE:
		m := &coordv1.Release{}
		if proto.Unmarshal(body, m) == nil {
			for _, e := range m.Entries {
				s.removal([]byte(e.Key))
			}
		}
	case coordv1.Kind_KIND_CAMPAIGN:
		m := &coordv1.Campaign{}
		if proto.Unmarshal(body, m) == nil && m.Priority != 0 {
			s.election(layout.ElectionQueue(m.Name, m.Priority))
		}
	case coordv1.Kind_KIND_TXN:
		s.txn(body)
	case coordv1.Kind_KIND_DELETE_RANGE:
		s.deletion(body)
	case coordv1.Kind_KIND_LEASE_REVOKE:
		m := &pb.LeaseRevokeRequest{}
		if proto.Unmarshal(body, m) == nil {
			s.lease(m.ID)
		}
	}
	return s.weight
}

// weightOfAcquire is that of an acquire of locks.
func weightOfAcquire(body []byte) int64 {
	const acquireNames = 1 // the number of the field
	names := int64(0)
	for f := wire.Read(body); f.Next(); {
		if f.IsBytes(acquireNames) {
			names++
		}
	}
	if names <= fewNames {
		return 0
	}
	return names * perName
}

// scale weighs one command. It takes a view only where there is a range.
type scale struct {
	k      *Keyspace
	view   *machine.View
	weight int64
}

func (s *scale) close() {
	if s.view != nil {
		s.view.Close()
	}
}

// full says that it is known already that the command goes alone.
func (s *scale) full() bool { return s.weight >= propose.LaneWeight }

// look takes a view, and reports whether there is one. A store that cannot be read ends the replica elsewhere.
func (s *scale) look() bool {
	if s.view == nil {
		view, err := s.k.Machine.View()
		if err != nil {
			return false
		}
		s.view = view
	}
	return true
}

// add adds the keys of a range.
func (s *scale) add(key, end []byte, each int64) {
	if len(end) > 0 && !s.full() && s.look() {
		s.keys(s.view.Width(key, end, maxWeighed), each)
	}
}

func (s *scale) keys(n, each int64) {
	if s.weight += n * each; n >= maxWeighed {
		s.weight = propose.LaneWeight
	}
}

// election adds the candidates of an election with priorities: when the leader goes all are looked at.
func (s *scale) election(queue string) {
	if s.full() || !s.look() {
		return
	}
	n := s.view.Width([]byte(queue+"/"), []byte(queue+"0"), maxCandidates) // '0' follows '/'
	if s.weight += n; n >= maxCandidates {
		s.weight = propose.LaneWeight
	}
}

// removal adds what follows from the end of an entry. It may not lead now, but when it goes: a client that goes through
// its candidates in the order in which they lead has each look for the next one.
func (s *scale) removal(key []byte) {
	if !bytes.HasPrefix(key, candidates) {
		return
	}
	if queue, ok := layout.QueueOfKey(string(key)); ok {
		s.election(queue)
	}
}

// lease adds the keys of a lease, and what follows from the end of each.
func (s *scale) lease(id statemachine.LeaseID) {
	if !s.look() {
		return
	}
	n := int64(0)
	_ = s.view.AttachedKeys(context.Background(), id, nil, func(k statemachine.AttachedKey) bool {
		if k.Lease != id {
			return false
		}
		s.removal(k.Key)
		n++
		return n < maxWeighed && !s.full()
	})
	s.keys(n, perDeleted)
}

// kinds are those of requests of sessions, by the procedures that they run.
var kinds = func() map[string]coordv1.Kind {
	kinds := map[string]coordv1.Kind{}
	for _, p := range recipes.Procedures() {
		kinds[p.Name()] = p.Kind()
	}
	return kinds
}()

// call weighs a procedure outside of sessions.
func (s *scale) call(m *raftv1.Call) {
	if m.Procedure != recipes.ForceRelease {
		s.weight += s.k.Weigh(kinds[m.Procedure], m.Request, nil)
		return
	}
	r := &coordv1.ForceReleaseRequest{}
	if proto.Unmarshal(m.Request, r) == nil && r.Kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION {
		s.election(layout.QueueOf(r.Kind, r.Name))
	}
}

func (s *scale) deletion(body []byte) {
	key, end := rangeOf(body, 1, 2)
	s.add(key, end, perDeleted)
}

// Numbers of fields of etcd's messages.
const (
	txnCompare, txnSuccess, txnFailure = 1, 2, 3
	opRange, opDelete, opTxn           = 1, 3, 4
	compareKey, compareEnd             = 3, 64
)

// txn weighs a transaction. It is walked over as it is encoded, because most have no ranges.
func (s *scale) txn(body []byte) {
	for f := wire.Read(body); f.Next(); {
		switch {
		case f.IsBytes(txnCompare):
			key, end := rangeOf(f.Bytes, compareKey, compareEnd)
			s.add(key, end, 1)
		case f.IsBytes(txnSuccess), f.IsBytes(txnFailure):
			s.op(f.Bytes)
		}
	}
}

func (s *scale) op(op []byte) {
	for f := wire.Read(op); f.Next(); {
		switch {
		case f.IsBytes(opRange):
			key, end := rangeOf(f.Bytes, 1, 2)
			s.add(key, end, 1)
		case f.IsBytes(opDelete):
			s.deletion(f.Bytes)
		case f.IsBytes(opTxn):
			s.txn(f.Bytes)
		}
	}
}

// rangeOf finds the fields that say where a range begins and ends.
func rangeOf(data []byte, keyField, endField protowire.Number) (key, end []byte) {
	for f := wire.Read(data); f.Next(); {
		switch {
		case f.IsBytes(keyField):
			key = f.Bytes
		case f.IsBytes(endField):
			end = f.Bytes
		}
	}
	return key, end
}
