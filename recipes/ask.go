package recipes

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// askRelease writes down that the holder is asked to release. The note goes with the holder's session.
func askRelease(step statemachine.Step, req *coordv1.AskRelease) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	for _, text := range []string{req.From, req.Reason} {
		if len(text) > MaxTextLen {
			return nil, invalid("a text has %d bytes, more than %d", len(text), MaxTextLen)
		}
	}
	queue := layout.ElectionQueue(req.Name, req.Priority)
	h, kind, ok := first(step, queue)
	if !ok || h.Lingers || h.Foreign || !step.LeaseAlive(h.Lease) {
		return &coordv1.Asked{Revision: step.Revision()}, nil
	}
	rev, err := putAsk(step, h, req.From, req.Reason)
	if err != nil {
		return nil, err
	}
	return &coordv1.Asked{Holder: noted(step, h, kind), Revision: rev}, nil
}

// first returns the oldest who holds, or the place that is kept for who did, with the token of the grant.
func first(step statemachine.Step, queue string) (e Entry, kind uint64, ok bool) {
	for e := range insideOf(step, queue) {
		return e, notedKind(step, queue, e), true
	}
	return Entry{}, 0, false
}

// notedKind is the kind of the queue that an entry is in, as far as it is known: 0 for one that an etcd client made.
func notedKind(step statemachine.Step, queue string, e Entry) uint64 {
	if is := layout.KindOf(queue); is != coordv1.QueueKind_QUEUE_ETCD {
		return uint64(is)
	}
	return step.Attachment(e.Lease, []byte(e.Key)).Kind
}

func putAsk(step statemachine.Step, holder Entry, from, reason string) (statemachine.Revision, error) {
	key := []byte(layout.AskKey(holder.Key))
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&recipesv1.Ask{Token: holder.Token, From: from,
		Reason: reason})
	if err != nil {
		return 0, invalid("what is said to the holder: %v", err)
	}
	rev, err := step.Put(key, value, holder.Lease)
	if err != nil {
		return 0, err
	}
	return rev, dropStale(step, key)
}

// maxStale is how many other notes an ask looks at.
const maxStale = 4

// dropStale deletes, of the few notes behind key, those whose entry is gone: a release leaves its note where it is, as
// hardly any has one, so each new one takes away old ones.
func dropStale(step statemachine.Step, key []byte) error {
	var stale [][]byte
	left := maxStale
	_, end := layout.Asks().Bytes()
	step.Scan(append(bytes.Clone(key), 0), end, func(kv *mvccpb.KeyValue) bool {
		asked, _ := layout.AskedEntry(string(kv.Key))
		ask, entry := ParseAsk(kv), step.Get([]byte(asked))
		if ask == nil || entry == nil || entry.CreateRevision > ask.Token {
			stale = append(stale, kv.Key)
		}
		left--
		return left > 0
	})
	for _, k := range stale {
		if _, err := step.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ParseAsk reads the note of an ask; nil if kv is none.
func ParseAsk(kv *mvccpb.KeyValue) *recipesv1.Ask {
	ask := &recipesv1.Ask{}
	if kv == nil || proto.Unmarshal(kv.Value, ask) != nil {
		return nil
	}
	return ask
}

// forceRelease removes whoever holds, or the place that is kept for who did; where several are inside, that of a token;
// or the entry of a key.
func forceRelease(step statemachine.Step, req *coordv1.ForceReleaseRequest) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	if req.Reason == "" || len(req.Reason) > MaxTextLen {
		return nil, invalid("a reason of %d bytes, not between 1 and %d", len(req.Reason), MaxTextLen)
	}
	queue := layout.QueueOf(req.Kind, req.Name)
	h, err := toRelease(step, queue, req)
	if err != nil {
		return nil, err
	}
	kind := notedKind(step, queue, h)
	if kind != 0 && !h.Foreign && req.Kind != coordv1.QueueKind_QUEUE_UNSPECIFIED && kind != uint64(req.Kind) {
		return nil, refuse(ErrWrongKind, "%q", req.Name)
	}
	resp := &coordv1.ForceReleaseResponse{Removed: noted(step, h, kind), Revision: step.Revision() + 1}
	if !h.Lingers && !h.Foreign && step.LeaseAlive(h.Lease) {
		// Tell why, if that can be: the release must not fail for want of space.
		_ = step.Attempt(func() error {
			_, err := putAsk(step, h, "", req.Reason)
			return err
		})
	}
	if _, err := step.Delete([]byte(h.Key)); err != nil {
		return nil, err
	}
	return resp, nil
}

// toRelease finds the entry that a request means. What is not the entry of the lease in its name is meant by its full
// key alone: nobody here knows whose it is. ErrForeignKey, ErrNotHolder.
func toRelease(step statemachine.Step, queue string, req *coordv1.ForceReleaseRequest) (Entry, error) {
	if len(req.Key) == 0 {
		e, err := inside(step, queue, req.Token)
		if err == nil && e.Foreign {
			err = refuse(ErrForeignKey, "%q", e.Key)
		}
		return e, err
	}
	e, ok := entryOf(queue, step.Get(req.Key))
	if !ok || req.Token != 0 && req.Token != e.Token {
		return Entry{}, refuse(ErrNotHolder, "%q has no entry %q", layout.NameOf(queue), req.Key)
	}
	return e, nil
}

// inside finds who is inside by the token of the grant, or the only one if the token is 0. ErrNotHolder.
func inside(step statemachine.Step, queue string, token int64) (found Entry, err error) {
	n, last := insideByCount(step, queue)
	if n < 0 {
		n = 0
		for e := range insideOf(step, queue) {
			if e.Foreign {
				return e, nil
			}
			if token == 0 || token == e.Token {
				found = e
				n++
			}
		}
	} else if token != 0 || n == 1 {
		found = createdFrom(step, queue, max(token, 0))
		n = 0
		if found.Key != "" && found.Token <= last && (token == 0 || token == found.Token) {
			n = 1
		}
	}
	switch n {
	case 0:
		return Entry{}, refuse(ErrNotHolder, "%q", layout.NameOf(queue))
	case 1:
		return found, nil
	}
	return Entry{}, invalid("%d hold %q: a token says which of them", n, layout.NameOf(queue))
}

// insideByCount is how many are inside of a queue that is counted, and the token of the newest; -1 for another queue.
func insideByCount(step statemachine.Step, queue string) (n, last int64) {
	t := parseCounts(step.Get(countsKey(queue)))
	switch r := RuleOf(queue).(type) {
	case counted:
		return t.Inside, t.Last
	case barrierRule:
		state := BarrierState(step.Get([]byte(r.Record(queue))))
		if !state.Open {
			return 0, 0
		}
		return t.Entries, state.Last
	}
	return -1, 0
}

// createdFrom finds the oldest entry that was created at a revision or later; its key is empty if there is none.
func createdFrom(step statemachine.Step, queue string, from int64) (e Entry) {
	step.ChildrenFrom([]byte(queue), from, func(kv *mvccpb.KeyValue) bool {
		var ok bool
		e, ok = ParseEntry(queue, kv)
		return !ok
	})
	return e
}
