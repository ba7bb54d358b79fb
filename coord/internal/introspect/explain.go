package introspect

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// How many waiters Explain shows, and holders: one of these may have to be found and removed.
const (
	explainedWaiters = 10
	explainedHolders = 1000
)

// Explain implements coordv1.IntrospectionServer.
func (s *Service) Explain(ctx context.Context, req *coordv1.ExplainRequest) (*coordv1.ExplainResponse, error) {
	if err := recipes.CheckName(req.Name); err != nil {
		return nil, refusal.Status(err)
	}
	return look(ctx, s, func(st *state) (*coordv1.ExplainResponse, error) {
		q := recipes.Read(st, layout.QueueOf(req.Kind, req.Name))
		told, err := st.situation(q, req.Kind)
		if err != nil {
			return nil, err
		}
		resp := &coordv1.ExplainResponse{
			Sentence: told.sentence(), Queue: told.queue, NestedKey: told.nested, Revision: st.Revision(),
		}
		waiting, holders := q.Waiting(), q.Holders()
		resp.Waiters = st.shown(told.queue.Kind, waiting[:min(len(waiting), explainedWaiters)])
		resp.Holders = st.shown(told.queue.Kind, holders[:min(len(holders), explainedHolders)])
		return resp, nil
	})
}

func (s *state) shown(kind coordv1.QueueKind, entries []recipes.Entry) (shown []*coordv1.Entry) {
	for _, e := range entries {
		shown = append(shown, s.entry(kind, e))
	}
	return shown
}

// situation is what there is to say of a queue that was asked for as one of a kind.
func (s *state) situation(q *recipes.Snapshot, asked coordv1.QueueKind) (*situation, error) {
	info := s.info(q)
	told := &situation{queue: info, as: info.Kind}
	if asked != coordv1.QueueKind_QUEUE_UNSPECIFIED {
		if len(q.Sorted) == 0 {
			info.Kind = asked
		}
		if !isOf(asked, info.Kind) {
			return nil, fmt.Errorf("%w: %q", recipes.ErrWrongKind, info.Name)
		}
		told.as = asked
	}
	if holder, ok := q.Holder(); ok {
		told.remainingMS, told.placeMS = s.remaining(holder.Lease), s.attachment(holder).LingerMS
	}
	if place, ok := q.Lingering(); ok {
		told.dead = s.entry(info.Kind, place)
	}
	if info.Waiting > 0 {
		told.deadlock = s.deadlockOver(info.Name)
	}
	if layout.KindOf(q.Queue) == coordv1.QueueKind_QUEUE_ETCD {
		told.nested = s.nested(q.Queue)
	}
	told.broken = s.broken(q.Queue)
	return told, nil
}

// maxNested is how many keys are looked through for one that stands deeper below a name.
const maxNested = 10_000

// nested finds the first key that stands deeper below a name, among so many. Mostly it is one of the first few.
func (s *state) nested(queue string) []byte {
	prefix := len(queue) + 1
	for _, limit := range [...]int64{16, maxNested} {
		page, err := s.Page(s.ctx, &pb.RangeRequest{
			Key: []byte(queue + "/"), RangeEnd: []byte(queue + "0"), Limit: limit, KeysOnly: true, // '0' follows '/'
		})
		if err != nil {
			s.fail(err)
			return nil
		}
		for _, kv := range page.Kvs {
			if bytes.IndexByte(kv.Key[prefix:], '/') >= 0 {
				return kv.Key
			}
		}
		if !page.More {
			return nil
		}
	}
	return nil
}

// broken says why a queue grants nobody anything, in words; empty if it is sound.
func (s *state) broken(queue string) string {
	for _, b := range s.BrokenQueues() {
		if b.Queue == queue {
			return fmt.Sprintf("nobody is granted anything here since revision %d, because what had to follow from a "+
				"deletion could not be done (%s): whoever enters has it tried again", b.Revision, b.Err)
		}
	}
	return ""
}

// deadlockOver is the first circle in which one session waits for another because of the name.
func (s *state) deadlockOver(name string) []edge {
	for _, circle := range s.waitGraph().deadlocks() {
		if slices.ContainsFunc(circle, func(e edge) bool { return e.name == name }) {
			return circle
		}
	}
	return nil
}

// WaitGraph implements coordv1.IntrospectionServer.
func (s *Service) WaitGraph(ctx context.Context, _ *coordv1.WaitGraphRequest) (*coordv1.WaitGraphResponse, error) {
	return look(ctx, s, func(st *state) (*coordv1.WaitGraphResponse, error) {
		g := st.waitGraph()
		resp := &coordv1.WaitGraphResponse{Edges: protoEdges(g.edges), Revision: st.Revision()}
		for _, circle := range g.deadlocks() {
			resp.Deadlocks = append(resp.Deadlocks, &coordv1.WaitGraphResponse_Cycle{Edges: protoEdges(circle)})
		}
		return resp, nil
	})
}

func protoEdges(edges []edge) []*coordv1.WaitGraphResponse_Edge {
	out := make([]*coordv1.WaitGraphResponse_Edge, len(edges))
	for i, e := range edges {
		out[i] = &coordv1.WaitGraphResponse_Edge{Waiter: e.waiter, Holder: e.holder, Name: e.name}
	}
	return out
}

// waitGraph reads the queues that have more than one entry.
func (s *state) waitGraph() *graph {
	counts := make(map[string]int)
	s.entries(func(queue string, _ statemachine.AttachedKey) { counts[queue]++ })
	var edges []edge
	for queue, n := range counts {
		if n > 1 {
			edges = append(edges, waitsIn(recipes.Read(s, queue))...)
		}
	}
	return newGraph(edges)
}

// waitsIn are the edges of a queue. Those who wait at a barrier wait for who is not there.
func waitsIn(q *recipes.Snapshot) []edge {
	if layout.KindOf(q.Queue) == coordv1.QueueKind_QUEUE_BARRIER {
		return nil
	}
	var inside, waiting []statemachine.LeaseID
	for e := range q.Inside() {
		if e.Lease != 0 { // a key of another client on no lease is nobody to wait for
			inside = append(inside, e.Lease)
		}
	}
	for _, e := range q.Waiting() {
		if !e.Foreign { // who waits by another client's key is not known
			waiting = append(waiting, e.Lease)
		}
	}
	return waits(layout.NameOf(q.Queue), inside, waiting)
}
