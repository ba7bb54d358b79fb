package introspect

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// ListSessions implements coordv1.IntrospectionServer.
func (s *Service) ListSessions(
	ctx context.Context, req *coordv1.ListSessionsRequest,
) (*coordv1.ListSessionsResponse, error) {
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, refusal.Status(err)
	}
	return look(ctx, s, func(st *state) (*coordv1.ListSessionsResponse, error) {
		resp := &coordv1.ListSessionsResponse{Revision: st.Revision()}
		holders := make(map[string]keys)
		err := st.Leases(req.After, !req.Leases, func(row statemachine.LeaseRow) bool {
			if statemachine.Lingers(row.ID) {
				return true // a place that is kept, which is shown with its queue
			}
			if resp.More = len(resp.Sessions) == limit; resp.More {
				return false
			}
			resp.Sessions = append(resp.Sessions, st.session(row, holders))
			return st.err == nil && ctx.Err() == nil
		})
		if err == nil {
			err = ctx.Err()
		}
		return resp, err
	})
}

type keys map[string]bool

// holding are the keys of the entries of a queue that hold.
func (s *state) holding(queue string) keys {
	holding := keys{}
	for _, e := range recipes.Read(s, queue).Holders() {
		holding[e.Key] = true
	}
	return holding
}

// session describes a session, and counts its keys. holders remembers who holds in each queue.
func (s *state) session(row statemachine.LeaseRow, holders map[string]keys) *coordv1.SessionInfo {
	info := &coordv1.SessionInfo{Id: row.ID, Created: row.Created, TtlMs: row.TTL, RemainingMs: s.remaining(row.ID)}
	if row.Created != 0 {
		info.Identity = identityOf(row)
	}
	s.attached(row.ID, func(k statemachine.AttachedKey) {
		info.Keys++
		queue, ok := queueOf(k)
		if !ok {
			return
		}
		holding, known := holders[queue]
		if !known {
			holding = s.holding(queue)
			holders[queue] = holding
		}
		if holding[string(k.Key)] {
			info.Holds++
		} else {
			info.Waits++
		}
	})
	return info
}

// GetSession implements coordv1.IntrospectionServer.
func (s *Service) GetSession(ctx context.Context, req *coordv1.GetSessionRequest) (*coordv1.GetSessionResponse, error) {
	return look(ctx, s, func(st *state) (*coordv1.GetSessionResponse, error) {
		row, ok, err := st.Lease(req.Id)
		if err != nil {
			return nil, err
		}
		if !ok || statemachine.Lingers(req.Id) {
			return nil, statemachine.ErrSessionNotFound
		}
		resp := &coordv1.GetSessionResponse{Session: st.session(row, make(map[string]keys)), Revision: st.Revision()}
		st.attached(row.ID, func(k statemachine.AttachedKey) {
			queue, isEntry := queueOf(k)
			switch {
			case isEntry && len(resp.Entries) < maxPage:
				if e := st.queueEntry(recipes.Read(st, queue), string(k.Key)); e != nil {
					resp.Entries = append(resp.Entries, e)
				}
			case !isEntry && len(resp.Keys) < maxPage:
				resp.Keys = append(resp.Keys, k.Key)
			}
		})
		return resp, nil
	})
}

// queueEntry describes an entry in its queue; nil if a key that looks like one is none.
func (s *state) queueEntry(q *recipes.Snapshot, key string) *coordv1.QueueEntry {
	e, ok := q.Entry(key)
	if !ok {
		return nil
	}
	if grant, held := q.Granted(key); held {
		e = grant
	}
	kind, found := s.kind(q), q.Find(key, e.Token)
	return &coordv1.QueueEntry{
		Kind: kind, Name: layout.NameOf(q.Queue), Entry: s.entry(kind, e),
		Holds: found.State == coordv1.AcquiredEntry_HOLDS, Position: found.Position,
	}
}

// EndSession implements coordv1.IntrospectionServer.
func (s *Service) EndSession(ctx context.Context, req *coordv1.EndSessionRequest) (*coordv1.EndSessionResponse, error) {
	body, err := proto.Marshal(&raftv1.LeaseRevoke{Id: req.Id})
	if err != nil {
		return nil, refusal.Status(err)
	}
	result, err := s.backend.Propose(ctx, raftv1.KindLeaseRevoke, body)
	if err != nil {
		if errors.Is(err, statemachine.ErrLeaseNotFound) {
			err = statemachine.ErrSessionNotFound
		}
		return nil, refusal.Status(err)
	}
	s.backend.Logger.Warn("a session was ended from outside", zap.String("session", hex(req.Id)))
	resp := &coordv1.EndSessionResponse{}
	if revoked, ok := result.(statemachine.LeaseRevoked); ok {
		resp.Revision = revoked.Revision
	}
	return resp, nil
}
