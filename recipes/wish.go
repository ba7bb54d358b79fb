package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// wish is what somebody wants of one queue, by a request of a session or of the unary API.
type wish struct {
	queue    string
	kind     uint64 // to be noted with the entry
	own      Entry  // its lease, owner id and value, and what it wants
	try      bool   // only if it holds at once
	resumes  bool   // there is an entry; it stays what it is
	lingerMS int64
	limit    int64 // of a semaphore
	parties  int64 // of a barrier
}

// entering makes the entry of a wish, or takes over the one there is. made is false if it was tried only.
type entering func(statemachine.Step, *wish) (p *place, made bool, err error)

// enterPlain is for queues in etcd's layout.
func enterPlain(step statemachine.Step, w *wish) (*place, bool, error) {
	p, err := look(step, w.queue, w.own, w.kind)
	if err != nil {
		return nil, false, err
	}
	made, err := w.take(step, p)
	return p, made, err
}

// take makes the entry, or takes over the one there is, unless it is tried only and would not hold.
func (w *wish) take(step statemachine.Step, p *place) (made bool, err error) {
	if w.try && !p.holds {
		return false, nil
	}
	if !w.resumes { // its value may have been proclaimed since
		p.own.Value = w.own.Value
	}
	if p.tally != nil && !p.exists {
		now := proto.CloneOf(p.tally)
		count(now, p.own, 1)
		if p.holds {
			now.Holder, now.Token = []byte(p.key), p.own.Token
			if _, ok := RuleOf(w.queue).(counted); ok {
				countInside(now, p.own, 1)
				now.Last = p.own.Token
			}
		}
		if err := putTally(step, w.queue, now); err != nil {
			return false, err
		}
	}
	return true, p.enter(step, encodeValue(w.kind, p.own), statemachine.Attachment{Kind: w.kind, LingerMS: w.lingerMS})
}

// enter has the entry made in a queue that is in order.
func (w *wish) enter(step statemachine.Step, enter entering) (*place, bool, error) {
	if err := mended(step, w.queue); err != nil {
		return nil, false, err
	}
	return enter(step, w)
}

// acquired answers a session's wish.
func (w *wish) acquired(step statemachine.Step, enter entering) (proto.Message, error) {
	resp := &coordv1.Acquired{Revision: step.Revision()}
	p, made, err := w.enter(step, enter)
	if err != nil {
		return nil, err
	}
	if made {
		resp.Revision = p.own.Claim
	}
	resp.Entries = []*coordv1.AcquiredEntry{p.answer(step, layout.NameOf(w.queue), w.kind, made)}
	return resp, nil
}

// sessionsWish is what the requests of sessions for one entry have in common.
type sessionsWish interface {
	GetName() string
	GetOwnerId() string
	GetOwner() string
	GetLabels() map[string]string
}

// newWish checks a session's request for an entry that says who its owner is.
func newWish(step statemachine.Step, kind uint64, req sessionsWish, try bool, lingerMS int64) (*wish, error) {
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
	return &wish{
		queue: layout.QueueOf(coordv1.QueueKind(kind), req.GetName()), kind: kind, try: try, lingerMS: lingerMS,
		own: Entry{Lease: lease, OwnerID: req.GetOwnerId(), Value: value},
	}, nil
}
