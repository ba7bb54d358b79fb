package stream

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/proto/wire"
	"github.com/coord-dev/coord/recipes"
)

// recipe is what a request does to entries that the stream follows.
type recipe struct {
	makes   []*entry // in the order of the outcome
	removes []*entry
}

// prepare makes the stream follow what a request is about to make, and not tell of what it is about to remove. nil if
// it is neither. Requests that the procedure will refuse do no harm.
func (es *entries) prepare(s *session, r *request) *recipe {
	switch r.Kind {
	case coordv1.Kind_KIND_ACQUIRE:
		body := &coordv1.Acquire{}
		if proto.Unmarshal(r.Body, body) != nil || len(body.Names) > recipes.MaxNames {
			return nil
		}
		makes := make([]*entry, 0, len(body.Names))
		for _, name := range body.Names {
			makes = append(makes, es.track(s, name, layout.EntryKey(name, s.id, body.OwnerId), r.Sequence))
		}
		return &recipe{makes: makes}
	case coordv1.Kind_KIND_CAMPAIGN:
		body := &coordv1.Campaign{}
		if proto.Unmarshal(r.Body, body) != nil {
			return nil
		}
		key := layout.EntryKey(layout.ElectionQueue(body.Name, body.Priority), s.id, body.OwnerId)
		return &recipe{makes: []*entry{es.track(s, body.Name, key, r.Sequence)}}
	case coordv1.Kind_KIND_RW_ACQUIRE:
		return es.addition(s, r, coordv1.QueueKind_QUEUE_RWLOCK, &coordv1.RWAcquire{})
	case coordv1.Kind_KIND_SEMAPHORE_ACQUIRE:
		return es.addition(s, r, coordv1.QueueKind_QUEUE_SEMAPHORE, &coordv1.SemaphoreAcquire{})
	case coordv1.Kind_KIND_BARRIER_ENTER:
		return es.addition(s, r, coordv1.QueueKind_QUEUE_BARRIER, &coordv1.BarrierEnter{})
	case coordv1.Kind_KIND_RELEASE:
		body := &coordv1.Release{}
		if proto.Unmarshal(r.Body, body) != nil {
			return nil
		}
		return es.removal(s, body.Entries...)
	case coordv1.Kind_KIND_TRANSFER:
		body := &coordv1.Transfer{}
		if proto.Unmarshal(r.Body, body) != nil || body.Leader == nil {
			return nil
		}
		return es.removal(s, body.Leader)
	case coordv1.Kind_KIND_WITHDRAW:
		body := &coordv1.Withdraw{}
		if proto.Unmarshal(r.Body, body) != nil {
			return nil
		}
		return es.withdrawal(s, body.Sequence)
	}
	return nil
}

// removed are the keys of the entries that it removes.
func (c *recipe) removed() (keys []string) {
	if c == nil {
		return nil
	}
	for _, e := range c.removes {
		keys = append(keys, e.key)
	}
	return keys
}

// owned is a request for one entry.
type owned interface {
	proto.Message
	GetName() string
	GetOwnerId() string
}

// addition is of the entry that a request for one makes in a queue of this kind.
func (es *entries) addition(s *session, r *request, kind coordv1.QueueKind, body owned) *recipe {
	if proto.Unmarshal(r.Body, body) != nil {
		return nil
	}
	key := layout.EntryKey(layout.QueueOf(kind, body.GetName()), s.id, body.GetOwnerId())
	return &recipe{makes: []*entry{es.track(s, body.GetName(), key, r.Sequence)}}
}

// removal is of those grants that the session has.
func (es *entries) removal(s *session, grants ...*coordv1.Guard) *recipe {
	c := &recipe{}
	for _, g := range grants {
		if e := es.find(s, g.Key); e != nil {
			c.removes = append(c.removes, e)
		}
	}
	es.silence(c.removes)
	return c
}

// withdrawal is of what a request has made, or may make still.
func (es *entries) withdrawal(s *session, sequence uint64) *recipe {
	es.st.mu.Lock()
	c := &recipe{removes: append([]*entry(nil), s.made[sequence]...)}
	es.st.mu.Unlock()
	es.silence(c.removes)
	return c
}

// done takes over the outcome of a request, after the client was answered. Of outcomes that are unknown the client will
// send the request again.
func (es *entries) done(c *recipe, outcome []byte) {
	response, refused := splitOutcome(outcome)
	if len(c.makes) > 0 {
		es.made(c.makes, response)
	}
	switch {
	case len(c.removes) == 0:
	case refused == coordv1.Error_REASON_UNSPECIFIED:
		es.drop(c.removes)
	case refused != coordv1.Error_REASON_OUTCOME_UNKNOWN:
		es.resume(c.removes)
	}
}

// splitOutcome takes apart a coordv1.Outcome: the response, or the reason of the refusal.
func splitOutcome(outcome []byte) (response []byte, refused coordv1.Error_Reason) {
	for p := wire.Read(outcome); p.Next(); {
		switch {
		case p.IsBytes(raftv1.OutcomeResponse):
			response = p.Bytes
		case p.IsBytes(raftv1.OutcomeRefusal):
			refused = coordv1.Error_REASON_ETCD
			for q := wire.Read(p.Bytes); q.Next(); {
				if q.IsVarint(1) {
					refused = coordv1.Error_Reason(q.Varint)
				}
			}
		}
	}
	return response, refused
}

// made settles entries by the coordv1.Acquired of an outcome; those that are not in it were not made.
func (es *entries) made(list []*entry, acquired []byte) {
	states := make([]coordv1.AcquiredEntry_State, len(list))
	tokens := make([]int64, len(list))
	var revision int64
	n := 0
	for p := wire.Read(acquired); p.Next(); {
		switch {
		case p.IsBytes(1) && n < len(list):
			for q := wire.Read(p.Bytes); q.Next(); {
				switch {
				case q.IsVarint(3):
					tokens[n] = int64(q.Varint)
				case q.IsVarint(4):
					states[n] = coordv1.AcquiredEntry_State(q.Varint)
				}
			}
			n++
		case p.IsVarint(2):
			revision = int64(p.Varint)
		}
	}
	for i, e := range list {
		if e != nil {
			es.settle(e, states[i], tokens[i], revision)
		}
	}
}
