package model

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// stream is what renews the leases attached to it. It exists while there are any.
type stream struct {
	id      uint64
	renewed int64  // log time of the tick that settled its last renewal
	pending uint64 // log index of a renewal that no tick has settled
}

// session is a lease with an identity. The bounds of its outcomes in bytes and number are no part of the model.
type session struct {
	id                     int64
	created, epoch, stream uint64
	identity               []byte
	acknowledged           uint64
	unkept                 uint64                      // the greatest sequence of what freed and left no outcome
	outcomes               map[uint64]*coordv1.Outcome // by sequence, above acknowledged
}

func cloneSessions(from []*session) []*session {
	var to []*session
	for _, s := range from {
		c := *s
		c.outcomes = maps.Clone(s.outcomes)
		to = append(to, &c)
	}
	return to
}

func (m *Model) session(id int64) *session {
	for _, s := range m.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

// liveSession is the session of this id that was created at this log index and is not overdue.
func (m *Model) liveSession(id int64, created uint64) *session {
	if s := m.session(id); s != nil && s.created == created && m.alive(id) {
		return s
	}
	return nil
}

func (m *Model) sessionOpen(r *raftv1.SessionOpen) (any, error) {
	if r.Id <= 0 || r.Stream == 0 {
		return nil, statemachine.ErrInvalid
	}
	if r.TtlMs > statemachine.MaxSessionTTL || len(r.Identity) > statemachine.MaxIdentity {
		return nil, statemachine.ErrInvalid
	}
	var held statemachine.Held
	streams := map[uint64]bool{}
	for _, s := range m.sessions {
		n := statemachine.SessionOverhead + len(s.identity)
		if held.All += n; s.stream == r.Stream {
			held.Own += n
		}
		streams[s.stream] = true
	}
	held.Holders = len(streams)
	if err := m.program.Room.CheckSession(held, len(r.Identity)); err != nil {
		return nil, err
	}
	if _, err := m.grant(&raftv1.LeaseGrant{Id: r.Id, TtlMs: r.TtlMs}); err != nil {
		return nil, err
	}
	s := &session{id: r.Id, created: m.index, identity: r.Identity, outcomes: map[uint64]*coordv1.Outcome{}}
	m.sessions = append(m.sessions, s)
	m.attach(s, 1, r.Stream)
	return statemachine.SessionOpened{ID: r.Id, Created: m.index, TTL: r.TtlMs, Epoch: 1, Revision: m.Revision()}, nil
}

// attach attaches a session to a stream and renews it.
func (m *Model) attach(s *session, epoch, id uint64) {
	if s.stream != 0 && s.stream != id {
		m.out.Sessions = append(m.out.Sessions,
			statemachine.SessionChange{ID: s.id, Created: s.created, Stream: s.stream})
	}
	s.epoch, s.stream = epoch, id
	l := &m.leases[m.leaseAt(s.id)]
	l.stream, l.pending = id, m.index
	if m.streamAt(id) < 0 {
		m.streams = append(m.streams, stream{id: id})
	}
	m.forgetStreams()
}

func (m *Model) streamAt(id uint64) int {
	return slices.IndexFunc(m.streams, func(s stream) bool { return s.id == id })
}

// forgetStreams drops streams that no lease is attached to.
func (m *Model) forgetStreams() {
	m.streams = slices.DeleteFunc(m.streams, func(s stream) bool {
		return !slices.ContainsFunc(m.leases, func(l lease) bool { return l.stream == s.id })
	})
}

func (m *Model) sessionAttach(r *raftv1.SessionAttach) (any, error) {
	if r.Stream == 0 {
		return nil, statemachine.ErrInvalid
	}
	resp := statemachine.SessionsAttached{Revision: m.Revision()}
	for _, item := range r.Items {
		outcome, ttl := statemachine.AttachNotFound, int64(0)
		if s := m.liveSession(item.Id, item.Created); s != nil {
			outcome = statemachine.AttachEpochPast
			if item.Epoch > s.epoch {
				m.attach(s, item.Epoch, r.Stream)
				outcome, ttl = statemachine.Attached, m.leases[m.leaseAt(s.id)].ttl
			}
		}
		resp.Outcomes, resp.TTLs = append(resp.Outcomes, outcome), append(resp.TTLs, ttl)
	}
	return resp, nil
}

func (m *Model) sessionEnd(r *raftv1.SessionEnd) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	if s := m.session(r.Id); s == nil || s.created != r.Created {
		return nil, statemachine.ErrSessionNotFound
	}
	m.drop(r.Id, false)
	return statemachine.SessionEnded{Revision: m.Revision()}, nil
}

// endSession forgets the session of a lease that is dropped.
func (m *Model) endSession(id int64) {
	s := m.session(id)
	if s == nil {
		return
	}
	m.sessions = slices.DeleteFunc(m.sessions, func(one *session) bool { return one == s })
	m.out.Sessions = append(m.out.Sessions, statemachine.SessionChange{
		ID: id, Created: s.created, Stream: s.stream, Ended: true,
	})
}

// streamRenew makes streams pending, but before that lets go of leases that are overdue.
func (m *Model) streamRenew(r *raftv1.StreamRenew) (any, error) {
	for _, id := range r.Streams {
		if m.streamAt(id) < 0 {
			continue
		}
		for i := range m.leases {
			if l := &m.leases[i]; l.stream == id && m.due(*l) {
				l.deadline, _ = m.now(*l)
				l.stream = 0
			}
		}
		m.forgetStreams()
		if at := m.streamAt(id); at >= 0 {
			m.streams[at].pending = m.index
		}
	}
	return statemachine.StreamsRenewed{Revision: m.Revision()}, nil
}

// linger puts a key of a lease that expires again, on a lease of its own.
func (m *Model) linger(kv *mvccpb.KeyValue, a statemachine.Attachment) {
	var lease8 []byte
	for shift := 56; shift >= 0; shift -= 8 {
		lease8 = append(lease8, byte(kv.Lease>>shift))
	}
	seed := uint64(0)
	for i, h := 0, sha256.Sum256(slices.Concat(lease8, kv.Key)); i < 8; i++ {
		seed = seed<<8 | uint64(h[i])
	}
	id := func() int64 { // as splitmix64 has it
		x := seed
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return int64(0xec696e<<40 + (x^x>>31)%(1<<40))
	}
	for m.leaseAt(id()) >= 0 {
		seed += 0x9e3779b97f4a7c15
	}
	m.leases = append(m.leases, lease{id: id(), ttl: a.LingerMS, pending: m.index})
	m.put(kv.Key, kv.Value, id())
	a.LingerMS = 0
	m.notes[string(kv.Key)] = a
}

// Attachment is what is noted of a key that is attached to a lease.
func (m *Model) Attachment(id int64, key []byte) statemachine.Attachment {
	if kv := m.latest(key); kv != nil && kv.Lease == id && id != 0 {
		return m.notes[string(key)]
	}
	return statemachine.Attachment{}
}

// Attached are all keys attached to leases, by lease as an unsigned number, then by key.
func (m *Model) Attached() []statemachine.AttachedKey {
	var all []statemachine.AttachedKey
	for _, kv := range m.versions([]byte{0}, []byte{0}, m.Revision()) {
		if kv.Lease != 0 {
			all = append(all, statemachine.AttachedKey{
				Lease: kv.Lease, Key: kv.Key, Attachment: m.notes[string(kv.Key)],
			})
		}
	}
	slices.SortStableFunc(all, func(a, b statemachine.AttachedKey) int {
		return cmp.Compare(uint64(a.Lease), uint64(b.Lease))
	})
	return all
}

// Sessions describes the sessions, by id.
func (m *Model) Sessions() []statemachine.SessionInfo {
	var all []statemachine.SessionInfo
	for _, l := range m.Leases() {
		if s := m.session(l.ID); s != nil {
			all = append(all, statemachine.SessionInfo{
				LeaseInfo: l, Created: s.created, Epoch: s.epoch, Stream: s.stream, Identity: s.identity,
			})
		}
	}
	slices.SortFunc(all, func(a, b statemachine.SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Acknowledged is the watermark of a session.
func (m *Model) Acknowledged(id int64) uint64 {
	if s := m.session(id); s != nil {
		return s.acknowledged
	}
	return 0
}

// requests runs the requests of a session.
func (m *Model) requests(r *raftv1.Requests) (any, error) {
	s := m.liveSession(r.Session, r.Created)
	if s == nil {
		return nil, statemachine.ErrSessionNotFound
	}
	if s.epoch != r.Epoch {
		return nil, statemachine.ErrSessionElsewhere
	}
	m.unixMS = r.UnixMs
	if !m.refuses() {
		s.acknowledged = max(s.acknowledged, r.Acknowledged)
	}
	maps.DeleteFunc(s.outcomes, func(sequence uint64, _ *coordv1.Outcome) bool { return sequence <= s.acknowledged })
	var done statemachine.RequestsDone
	for i, data := range r.Requests {
		m.running.Request = uint32(i + 1)
		outcome, err := m.request(s, data)
		if err != nil {
			outcome = &coordv1.Outcome{Refusal: statemachine.RefusalOf(err)}
		}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(outcome)
		if err != nil {
			panic(err)
		}
		done.Outcomes = append(done.Outcomes, encoded)
	}
	done.Revision = m.Revision()
	return done, nil
}

// request runs a request, or finds its outcome. An error is a refusal that is not stored.
func (m *Model) request(s *session, data []byte) (*coordv1.Outcome, error) {
	r := &coordv1.Request{}
	if proto.Unmarshal(data, r) != nil {
		return nil, statemachine.ErrInvalid
	}
	if m.session(s.id) != s {
		return nil, statemachine.ErrSessionNotFound
	}
	if err := s.checkSequence(r.Sequence); err != nil {
		return nil, err
	}
	if before := s.outcomes[r.Sequence]; before != nil {
		return before, nil
	}
	if r.Sequence <= s.unkept {
		return nil, statemachine.ErrUnkept
	}
	frees := m.freesKind(r.Kind)
	if err := m.checkRoom(s, -1); err != nil && !frees {
		return nil, err
	}
	outcome := &coordv1.Outcome{}
	err := m.step(func() error {
		if m.refuses() {
			return statemachine.ErrRefusedByOperator
		}
		response, err := m.execute(s, r)
		if err != nil {
			return err
		}
		if outcome.Response = response; response == nil {
			outcome.Response = []byte{}
		}
		if frees {
			return nil
		}
		return m.checkRoom(s, proto.Size(outcome))
	})
	switch {
	case errors.Is(err, statemachine.ErrNoSpace), errors.Is(err, statemachine.ErrCorrupt),
		errors.Is(err, statemachine.ErrBacklog):
		return nil, err
	case err != nil:
		outcome = &coordv1.Outcome{Refusal: statemachine.RefusalOf(err)}
		if err := m.checkRoom(s, statemachine.RefusalSize); err != nil && !frees {
			return nil, err
		}
	}
	if frees {
		m.keepFreed(s, r.Sequence, outcome)
	} else {
		s.outcomes[r.Sequence] = outcome
	}
	return outcome, nil
}

func (m *Model) freesKind(kind coordv1.Kind) bool {
	for _, p := range m.program.Procedures {
		if p.Kind() == kind && kind != 0 {
			return p.Frees()
		}
	}
	return statemachine.FreesKind(kind)
}

// keepFreed keeps the outcome of what frees, or notes that there is no room for it.
func (m *Model) keepFreed(s *session, sequence uint64, outcome *coordv1.Outcome) {
	if m.program.Room.KeepsFreed(m.held(s), len(s.outcomes), outcomeSize(outcome)) {
		s.outcomes[sequence] = outcome
	} else {
		s.unkept = max(s.unkept, sequence)
	}
}

// checkRoom refuses an outcome of n bytes where all sessions hold too much.
func (m *Model) checkRoom(s *session, n int) error {
	return m.program.Room.CheckOutcome(m.held(s), n)
}

// held is what counts for the room of a session's outcomes.
func (m *Model) held(s *session) (held statemachine.Held) {
	for _, one := range m.sessions {
		if len(one.outcomes) > 0 {
			held.Holders++
		}
		held.All += one.cost()
	}
	held.Own = s.cost()
	return held
}

// cost is what the outcomes of a session count.
func (s *session) cost() (n int) {
	for _, outcome := range s.outcomes {
		n += statemachine.OutcomeOverhead + outcomeSize(outcome)
	}
	return n
}

func outcomeSize(outcome *coordv1.Outcome) int {
	if outcome.Refusal != nil {
		return statemachine.RefusalSize
	}
	return proto.Size(outcome)
}

func (s *session) checkSequence(n uint64) error {
	if n <= s.acknowledged {
		return statemachine.ErrSequencePast
	}
	if n-s.acknowledged > 100_000 {
		return statemachine.ErrSequenceFuture
	}
	return nil
}

// execute runs a request for the first time and returns the encoding of its response.
func (m *Model) execute(s *session, r *coordv1.Request) ([]byte, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	at := &step{m: m, session: s.id, sequence: r.Sequence}
	for _, g := range r.Guards {
		if m.program.Guard == nil || !m.program.Guard(at, g) {
			return nil, statemachine.ErrFenced
		}
	}
	switch r.Kind {
	case coordv1.Kind_KIND_PUT:
		return body(r, m.putCommand)
	case coordv1.Kind_KIND_DELETE_RANGE:
		return body(r, m.deleteCommand)
	case coordv1.Kind_KIND_TXN:
		return body(r, m.txn)
	case coordv1.Kind_KIND_LEASE_GRANT:
		return body(r, func(g *pb.LeaseGrantRequest) (any, error) {
			if g.TTL > 9e9 {
				return nil, statemachine.ErrInvalid
			}
			_, err := m.grant(&raftv1.LeaseGrant{Id: g.ID, TtlMs: 1000 * max(g.TTL, 0)})
			return &pb.LeaseGrantResponse{Header: m.header(), ID: g.ID, TTL: g.TTL}, err
		})
	case coordv1.Kind_KIND_LEASE_REVOKE:
		return body(r, func(g *pb.LeaseRevokeRequest) (any, error) {
			_, err := m.revoke(&raftv1.LeaseRevoke{Id: g.ID})
			return &pb.LeaseRevokeResponse{Header: m.header()}, err
		})
	case coordv1.Kind_KIND_WITHDRAW:
		return body(r, func(w *coordv1.Withdraw) (any, error) { return m.withdraw(s, r.Sequence, w.Sequence) })
	}
	for _, p := range m.program.Procedures {
		if p.Kind() == r.Kind && r.Kind != 0 {
			m.frees = p.Frees()
			return p.Run(at, r.Body)
		}
	}
	return nil, statemachine.ErrInvalid
}

// body runs what a request asks for and encodes the response.
func body[T any, M interface {
	*T
	proto.Message
}](r *coordv1.Request, run func(M) (any, error)) ([]byte, error) {
	msg := M(new(T))
	if proto.Unmarshal(r.Body, msg) != nil {
		return nil, statemachine.ErrInvalid
	}
	response, err := run(msg)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(response.(proto.Message))
}

// withdraw deletes what a request of the session made, or sees to it that it never runs.
func (m *Model) withdraw(s *session, own, of uint64) (any, error) {
	if own == of {
		return nil, statemachine.ErrInvalid
	}
	if err := s.checkSequence(of); err != nil {
		return nil, err
	}
	outcome := s.outcomes[of]
	if outcome == nil {
		if of > s.unkept {
			m.keepFreed(s, of, &coordv1.Outcome{Refusal: statemachine.RefusalOf(statemachine.ErrWithdrawn)})
		}
		return &coordv1.Withdrawn{Revision: m.Revision()}, nil
	}
	m.frees = true
	made := &coordv1.Acquired{}
	if proto.Unmarshal(outcome.Response, made) != nil {
		made = &coordv1.Acquired{} // of another kind
	}
	removed := false
	for _, e := range made.Entries {
		if key := []byte(e.Key); m.Attachment(s.id, key).Sequence == of {
			m.delete(key)
			removed = true
		}
	}
	return &coordv1.Withdrawn{Removed: removed, Revision: m.Revision()}, nil
}
