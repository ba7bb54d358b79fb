package machine

import (
	"fmt"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// sessionOpen grants a lease and makes a session of it.
func (b *batch) sessionOpen(r *raftv1.SessionOpen) statemachine.Result {
	if r.Id <= 0 || r.Stream == 0 {
		return refuse(fmt.Errorf("%w: session %d must be positive, stream %d not 0", statemachine.ErrInvalid, r.Id,
			r.Stream))
	}
	switch {
	case r.TtlMs > statemachine.MaxSessionTTL:
		return refuse(fmt.Errorf("%w: a session's ttl of %d ms is longer than %d ms", statemachine.ErrInvalid, r.TtlMs,
			statemachine.MaxSessionTTL))
	case len(r.Identity) > statemachine.MaxIdentity:
		return refuse(fmt.Errorf("%w: a session's identity has %d bytes, more than %d", statemachine.ErrInvalid,
			len(r.Identity), statemachine.MaxIdentity))
	}
	all := &b.m.sessions.held
	held := statemachine.Held{Own: all.perStream[r.Stream], All: all.sessions, Holders: len(all.perStream)}
	if err := b.m.opts.Room.CheckSession(held, len(r.Identity)); err != nil {
		b.m.refused.sessions.Add(1)
		return refuse(err)
	}
	granted := b.leaseGrant(&raftv1.LeaseGrant{Id: r.Id, TtlMs: r.TtlMs})
	if granted.Err != nil {
		return granted
	}
	s := &session{id: r.Id, created: b.index, identity: r.Identity}
	b.m.sessions.put(s)
	b.attachSession(s, 1, r.Stream)
	return statemachine.Result{
		Response: statemachine.SessionOpened{
			ID: s.id, Created: s.created, TTL: r.TtlMs, Epoch: s.epoch, Revision: b.kv.Revision(),
		},
	}
}

// attachSession attaches a session that is alive to a stream, which renews it. It returns the TTL.
func (b *batch) attachSession(s *session, epoch, stream uint64) int64 {
	before := s.stream
	b.m.sessions.attach(s, epoch, stream)
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceSessions, uint64(s.id)), s.row())
	old, _ := b.m.leases.Get(s.id)
	l, ok := b.m.leases.Attach(s.id, stream, b.index)
	if !ok {
		b.fail(fmt.Errorf("session %d has no lease that is alive", s.id))
		return 0
	}
	b.storeLease(l)
	b.forgetStream(old.Stream)
	if before != 0 && before != stream {
		b.applied.Sessions = append(b.applied.Sessions,
			statemachine.SessionChange{ID: s.id, Created: s.created, Stream: before})
	}
	return l.TTL
}

// sessionAttach attaches sessions to a stream.
func (b *batch) sessionAttach(r *raftv1.SessionAttach) statemachine.Result {
	if r.Stream == 0 {
		return refuse(fmt.Errorf("%w: stream 0", statemachine.ErrInvalid))
	}
	resp := statemachine.SessionsAttached{
		Outcomes: make([]statemachine.AttachOutcome, len(r.Items)), TTLs: make([]int64, len(r.Items)),
		Revision: b.kv.Revision(),
	}
	for i, item := range r.Items {
		s := b.liveSession(item.GetId(), item.GetCreated())
		switch {
		case s == nil:
			resp.Outcomes[i] = statemachine.AttachNotFound
		case item.Epoch <= s.epoch:
			resp.Outcomes[i] = statemachine.AttachEpochPast
		default:
			resp.Outcomes[i] = statemachine.Attached
			resp.TTLs[i] = b.attachSession(s, item.Epoch, r.Stream)
		}
	}
	return statemachine.Result{Response: resp}
}

// liveSession returns the session that was created at a log index, nil if it is no more or overdue.
func (b *batch) liveSession(id statemachine.LeaseID, created uint64) *session {
	s := b.m.sessions.byID[id]
	if s == nil || s.created != created || !b.m.leases.Alive(id) {
		return nil
	}
	return s
}

// sessionEnd ends a session, overdue or not: its keys are deleted, those that would linger after an expiry too.
func (b *batch) sessionEnd(r *raftv1.SessionEnd) statemachine.Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	if s := b.m.sessions.byID[r.Id]; s == nil || s.created != r.Created {
		return refuse(statemachine.ErrSessionNotFound)
	}
	b.dropLease(r.Id, false)
	return statemachine.Result{Response: statemachine.SessionEnded{Revision: b.kv.Revision()}}
}

// dropSession deletes what is stored of a session whose lease is dropped.
func (b *batch) dropSession(id statemachine.LeaseID) {
	s := b.m.sessions.byID[id]
	if s == nil {
		return
	}
	b.m.sessions.remove(s)
	b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceSessions, uint64(id)))
	for row := range s.outcomes.rows() {
		b.dropOutcomes(s, row)
	}
	change := statemachine.SessionChange{ID: id, Created: s.created, Stream: s.stream, Ended: true}
	b.applied.Sessions = append(b.applied.Sessions, change)
}

// streamRenew renews all sessions attached to the streams.
func (b *batch) streamRenew(r *raftv1.StreamRenew) statemachine.Result {
	for _, id := range r.Streams {
		if id == 0 {
			continue
		}
		left, ok := b.m.leases.RenewStream(id, b.index)
		for _, l := range left {
			b.storeLease(l)
		}
		if !ok {
			b.forgetStream(id)
			continue
		}
		if s, ok := b.m.leases.Stream(id); ok {
			b.storeStream(s)
		}
	}
	return statemachine.Result{Response: statemachine.StreamsRenewed{Revision: b.kv.Revision()}}
}

func (b *batch) storeStream(s lease.Stream) {
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceStreams, s.ID), lease.EncodeStream(s))
}

// forgetStream deletes the row of a stream that has no sessions any more.
func (b *batch) forgetStream(id uint64) {
	if id == 0 {
		return
	}
	if _, ok := b.m.leases.Stream(id); !ok {
		b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceStreams, id))
	}
}
