package introspect

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// pageBytes is the size from which a page of queues takes no further name.
const pageBytes = 1 << 20

// ListQueues implements coordv1.IntrospectionServer.
func (s *Service) ListQueues(ctx context.Context, req *coordv1.ListQueuesRequest) (*coordv1.ListQueuesResponse, error) {
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, refusal.Status(err)
	}
	return look(ctx, s, func(st *state) (*coordv1.ListQueuesResponse, error) {
		resp := &coordv1.ListQueuesResponse{Revision: st.Revision()}
		for after := req.After; ; {
			first := st.names(req, after, limit)
			names := first.sorted()
			more := len(names) > limit
			names, resp.More = names[:min(len(names), limit)], more
			size := 0
			for i, name := range names {
				for _, info := range st.named(name, first.set[name], req.Kind) {
					resp.Queues = append(resp.Queues, info)
					size += proto.Size(info)
				}
				if after = name; size > pageBytes {
					resp.More = more || i < len(names)-1
					break
				}
			}
			// A page that turned out empty does not tell the client where to go on.
			if len(resp.Queues) > 0 || !resp.More || st.err != nil {
				return resp, nil
			}
		}
	})
}

// names finds the first names behind after, and one more, that may have a queue of the kind asked for, and which.
func (s *state) names(req *coordv1.ListQueuesRequest, after string, limit int) *smallest {
	first := newSmallest(limit + 1)
	s.entries(func(queue string, k statemachine.AttachedKey) {
		name := layout.NameOf(queue)
		if name > after && strings.HasPrefix(name, req.Prefix) && mayBe(req.Kind, queue, k.Attachment.Kind) {
			first.add(name, layout.KindOf(queue))
		}
	})
	return first
}

// mayBe says whether an entry that was noted as made for this kind, or by an etcd client, can be in a queue of the kind
// asked for.
func mayBe(asked coordv1.QueueKind, queue string, noted uint64) bool {
	if kind := layout.KindOf(queue); kind != coordv1.QueueKind_QUEUE_ETCD {
		return isOf(asked, kind)
	}
	return asked == coordv1.QueueKind_QUEUE_UNSPECIFIED || noted == 0 || noted == recipes.KindEndpoint ||
		coordv1.QueueKind(noted) == asked
}

// named describes the queues of a name that are of the kind asked for.
func (s *state) named(name string, are queues, asked coordv1.QueueKind) (infos []*coordv1.QueueInfo) {
	for _, kind := range layout.QueueKinds() {
		if !are.has(kind) {
			continue
		}
		q := recipes.Read(s, layout.QueueOf(kind, name))
		if len(q.Sorted) == 0 {
			continue
		}
		if info := s.info(q); isOf(asked, info.Kind) {
			infos = append(infos, info)
		}
	}
	return infos
}

// isOf says whether a queue of a kind is listed with the kind asked for.
func isOf(asked, kind coordv1.QueueKind) bool {
	switch asked {
	case coordv1.QueueKind_QUEUE_UNSPECIFIED, kind:
		return true
	case coordv1.QueueKind_QUEUE_LOCK:
		return kind == coordv1.QueueKind_QUEUE_ETCD
	case coordv1.QueueKind_QUEUE_ELECTION:
		return kind == coordv1.QueueKind_QUEUE_ETCD || kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
	}
	return false
}

// queues says which queues a name has, a bit for each of recipes.Kinds.
type queues uint32

func (q queues) has(kind coordv1.QueueKind) bool { return q&(1<<kind) != 0 }

// smallest keeps the n smallest of the names it is given, each once, in memory for 2n.
type smallest struct {
	n   int
	set map[string]queues
	max string // names greater than this are none of them; empty: not known yet
}

func newSmallest(n int) *smallest { return &smallest{n: n, set: make(map[string]queues)} }

func (s *smallest) add(name string, kind coordv1.QueueKind) {
	if s.max != "" && name > s.max {
		return
	}
	s.set[name] |= 1 << kind
	if len(s.set) < 2*s.n {
		return
	}
	all := s.sorted()
	s.max = all[s.n-1]
	for _, each := range all[s.n:] {
		delete(s.set, each)
	}
}

func (s *smallest) sorted() []string { return slices.Sorted(maps.Keys(s.set)) }
