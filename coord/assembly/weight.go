package assembly

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// Weights of commands, for propose.Lane: how many keys they look at by what this member has applied. An estimate decides only
// when a command is proposed; the state machine counts for itself.

// maxWeighed is how many keys are counted at most: what has more goes alone.
const maxWeighed = 10_000

// perDeleted is how much dearer it is to delete a key than to look at it, perTransfer what it takes to move all candidates that
// a transfer moves at most, perResize to look at all who wait that a resize looks at.
const (
	perDeleted  = 8
	perTransfer = 10_000
	perResize   = 1_000
)

// candidates begins the keys of elections with priorities.
var candidates = []byte(recipes.QueueOf(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, ""))

// weightOf is that of a command. Requests of sessions are weighed one by one, by Weigh.
func (r *Replica) weightOf(kind raftv1.Kind, body []byte) int64 {
	switch kind {
	case raftv1.KindTxn, raftv1.KindDeleteRange, raftv1.KindLeaseRevoke, raftv1.KindSessionEnd:
	default:
		return 0
	}
	s := &scale{r: r}
	defer s.close()
	switch kind {
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

// Weigh is the weight of a request of a session.
func (r *Replica) Weigh(kind coordv1.Kind, body []byte) int64 {
	switch kind {
	case coordv1.Kind_KIND_TXN, coordv1.Kind_KIND_DELETE_RANGE, coordv1.Kind_KIND_LEASE_REVOKE:
	case coordv1.Kind_KIND_TRANSFER:
		return perTransfer
	case coordv1.Kind_KIND_SEMAPHORE_RESIZE:
		return perResize
	case coordv1.Kind_KIND_RELEASE:
		if !bytes.Contains(body, candidates) {
			return 0
		}
	case coordv1.Kind_KIND_CAMPAIGN:
	default:
		return 0
	}
	s := &scale{r: r}
	defer s.close()
	switch kind {
	case coordv1.Kind_KIND_RELEASE:
		m := &coordv1.Release{}
		if proto.Unmarshal(body, m) == nil {
			for _, e := range m.Entries {
				s.election(e.Name)
			}
		}
	case coordv1.Kind_KIND_CAMPAIGN:
		m := &coordv1.Campaign{}
		if proto.Unmarshal(body, m) == nil && m.Priority != 0 {
			s.election(m.Name)
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

// scale weighs one command. It takes a view only where there is a range.
type scale struct {
	r      *Replica
	view   *statemachine.View
	weight int64
}

func (s *scale) close() {
	if s.view != nil {
		s.view.Close()
	}
}

// full says that it is known already that the command goes alone.
func (s *scale) full() bool { return s.weight >= propose.LaneWeight }

// add adds the keys of a range.
func (s *scale) add(key, end []byte, each int64) {
	if len(end) == 0 || s.full() {
		return
	}
	if s.view == nil {
		view, err := s.r.Machine.View()
		if err != nil {
			return // and so is the command's
		}
		s.view = view
	}
	s.keys(s.view.Width(key, end, maxWeighed), each)
}

func (s *scale) keys(n, each int64) {
	if s.weight += n * each; n >= maxWeighed {
		s.weight = propose.LaneWeight
	}
}

// election adds the candidates of an election with priorities: when the leader goes all are looked at.
func (s *scale) election(name string) {
	queue := recipes.QueueOf(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, name)
	s.add([]byte(queue+"/"), []byte(queue+"0"), 1) // '0' follows '/'
}

func (s *scale) lease(id statemachine.LeaseID) {
	s.keys(s.r.Machine.LeaseWidth(id, maxWeighed), perDeleted)
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
	fields(body, func(num protowire.Number, data []byte) {
		switch num {
		case txnCompare:
			key, end := rangeOf(data, compareKey, compareEnd)
			s.add(key, end, 1)
		case txnSuccess, txnFailure:
			fields(data, s.op)
		}
	})
}

func (s *scale) op(num protowire.Number, data []byte) {
	switch num {
	case opRange:
		key, end := rangeOf(data, 1, 2)
		s.add(key, end, 1)
	case opDelete:
		s.deletion(data)
	case opTxn:
		s.txn(data)
	}
}

// rangeOf finds the fields that say where a range begins and ends.
func rangeOf(data []byte, keyField, endField protowire.Number) (key, end []byte) {
	fields(data, func(num protowire.Number, value []byte) {
		switch num {
		case keyField:
			key = value
		case endField:
			end = value
		}
	})
	return key, end
}

// fields calls fn for the fields of a message that have a length, as far as it parses.
func fields(data []byte, fn func(num protowire.Number, value []byte)) {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return
		}
		data = data[n:]
		if typ == protowire.BytesType {
			value, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return
			}
			fn(num, value)
			data = data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, data); n < 0 {
			return
		}
		data = data[n:]
	}
}
