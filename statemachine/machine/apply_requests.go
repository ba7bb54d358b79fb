package machine

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// A session's requests are executed once each, in the order of their command, and each like a command of its own. What
// a request came to, refusals too, is stored with its sequence number; a request that is sent again gets the same
// bytes. Not stored are refusals that say nothing about the request:
//
//   - that it does not parse, so that it has no sequence number;
//   - ErrSequencePast, ErrSequenceFuture, ErrBacklog, ErrSessionNotFound: the session has no place for an outcome (what
//     frees runs without one, and another copy of it is then refused by ErrSequencePast);
//   - ErrNoSpace, ErrCorrupt, and ErrBacklog of all sessions: they pass, and then the request is executed when it is
//     sent again.
//
// Unknown kinds: those that a session can have belong to a newer version, because who proposes knows what it proposes,
// and stop the replica like unknown commands. Numbers that no version proposes for a session are refused.

// errBody is the refusal of a body that is not the message its kind names.
var errBody = fmt.Errorf("%w: the body of the request does not parse", statemachine.ErrInvalid)

// requestRun is the execution of one command with requests of a session.
type requestRun struct {
	*batch
	s   *session
	row *outcomeRow // of what is new
	new []byte      // what is new, as it is stored behind the watermarks
	ack bool        // a watermark moved
	now step        // of the request that is being executed
}

// requests executes the requests of a session.
func (b *batch) requests(body []byte) statemachine.Result {
	r, err := raftv1.ParseRequests(body)
	if err != nil {
		b.m.unparsed.Add(1)
		return refuse(fmt.Errorf("%w: kind %d", statemachine.ErrInvalid, raftv1.KindRequests))
	}
	s := b.liveSession(r.Session, r.Created)
	switch {
	case s == nil:
		return refuse(statemachine.ErrSessionNotFound)
	case s.epoch != r.Epoch:
		return refuse(statemachine.ErrSessionElsewhere)
	}
	b.keep, b.unixMS = true, r.UnixMS
	run := &requestRun{batch: b, s: s, row: &outcomeRow{index: b.index, ordinal: b.outcomes}}
	b.outcomes++
	if !b.refuses() { // a member may have ended at that
		run.acknowledge(r.Acknowledged)
	}
	done := statemachine.RequestsDone{Outcomes: make([][]byte, len(r.Requests))}
	b.at.session = s.id
	for i, data := range r.Requests {
		b.at.request = i + 1
		done.Outcomes[i] = run.request(data)
	}
	run.store()
	done.Revision = b.kv.Revision()
	return statemachine.Result{Response: done}
}

func (r *requestRun) acknowledge(to uint64) {
	if to <= r.s.outcomes.acknowledged {
		return
	}
	r.ack = true
	for _, row := range r.s.outcomes.acknowledge(to) {
		r.dropOutcomes(r.s, row)
	}
}

// store writes the row of what is new, which is the newest one then.
func (r *requestRun) store() {
	if !r.ack && len(r.new) == 0 || r.ended() {
		return
	}
	o := &r.s.outcomes
	if o.newest != nil && o.newest.live == 0 {
		r.dropOutcomes(r.s, o.newest)
	}
	o.newest = r.row
	value := o.appendWatermarks(make([]byte, 0, 2*binary.MaxVarintLen64+len(r.new)))
	r.kv.Rows().Set(mvcc.OutcomeKey(r.s.id, r.row.index, r.row.ordinal), append(value, r.new...))
}

func (b *batch) dropOutcomes(s *session, row *outcomeRow) {
	b.kv.Rows().Delete(mvcc.OutcomeKey(s.id, row.index, row.ordinal))
}

// ended reports whether a request of this command ended the session.
func (r *requestRun) ended() bool { return r.m.sessions.byID[r.s.id] != r.s }

// keep stores an outcome.
func (r *requestRun) keep(sequence uint64, outcome []byte) {
	if r.m.undo.Open() {
		new := len(r.new)
		r.m.undo.Note(func() {
			r.s.outcomes.remove(sequence)
			r.new = r.new[:new]
		})
	}
	r.s.outcomes.add(sequence, outcome, r.row)
	r.new = appendStoredOutcome(r.new, sequence, outcome)
}

// request executes a request, or finds what it came to before.
func (r *requestRun) request(data []byte) []byte {
	q, err := raftv1.ParseRequest(data)
	if err != nil {
		r.m.unparsed.Add(1)
		return encodeRefusal(fmt.Errorf("%w: the request does not parse", statemachine.ErrInvalid))
	}
	if r.ended() {
		return encodeRefusal(statemachine.ErrSessionNotFound)
	}
	if err := r.checkSequence(q.Sequence); err != nil {
		return encodeRefusal(err)
	}
	if before, ok := r.s.outcomes.bySequence[q.Sequence]; ok {
		return before.data
	}
	if q.Sequence <= r.s.outcomes.unkept {
		return encodeRefusal(statemachine.ErrUnkept)
	}
	frees := statemachine.FreesKind(q.Kind) || r.m.kinds[q.Kind] != nil && r.m.kinds[q.Kind].Frees()
	check := r.checkRoom
	if frees { // whatever room there is
		check = func(int) error { return nil }
	}
	if err := check(-1); err != nil { // whatever the outcome is
		return encodeRefusal(err)
	}
	r.at.kind, r.at.sequence = q.Kind, q.Sequence
	var outcome []byte
	err = r.step(func() (err error) {
		if r.refuses() {
			return statemachine.ErrRefusedByOperator
		}
		if outcome, err = r.execute(q); err != nil {
			return err
		}
		return check(outcomeSize(outcome))
	})
	if err != nil {
		outcome = encodeRefusal(err)
		if full := check(statemachine.RefusalSize); full != nil && !transient(err) {
			return encodeRefusal(full)
		}
	}
	if err == errBody {
		r.m.unparsed.Add(1)
	}
	switch {
	case transient(err), r.ended():
	case frees:
		r.keepFreed(q.Sequence, outcome)
	default:
		r.keep(q.Sequence, outcome)
	}
	return outcome
}

// keepFreed stores the outcome of what frees if there is room; else it notes that there is none.
func (r *requestRun) keepFreed(sequence uint64, outcome []byte) {
	o := &r.s.outcomes
	if !o.full(true) && r.m.opts.Room.KeepsFreed(r.held(), len(o.bySequence), outcomeSize(outcome)) {
		r.keep(sequence, outcome)
		return
	}
	if before := o.unkept; sequence > before {
		r.m.undo.Note(func() { o.unkept = before })
		o.unkept, r.ack = sequence, true
	}
}

// held is what counts for the room of this session's outcomes.
func (r *requestRun) held() statemachine.Held {
	return statemachine.Held{
		Own: r.s.outcomes.cost, All: r.m.sessions.held.outcomes, Holders: r.m.sessions.held.backlogs,
	}
}

// checkRoom refuses an outcome of n bytes, -1 for one that is not known yet, where there is no room for it.
func (r *requestRun) checkRoom(n int) error {
	if n < 0 && r.s.outcomes.full(false) {
		return statemachine.ErrBacklog
	}
	err := r.m.opts.Room.CheckOutcome(r.held(), n)
	if err != nil {
		r.m.refused.outcomes.Add(1)
	}
	return err
}

// checkSequence refuses numbers that no outcome can be kept for.
func (r *requestRun) checkSequence(sequence uint64) error {
	switch acknowledged := r.s.outcomes.acknowledged; {
	case sequence <= acknowledged:
		return statemachine.ErrSequencePast
	case sequence-acknowledged > statemachine.MaxSequenceLead:
		return statemachine.ErrSequenceFuture
	}
	return nil
}

// execute executes a request and returns its outcome.
func (r *requestRun) execute(q raftv1.ParsedRequest) ([]byte, error) {
	if err := r.m.alarms.refuseCorrupt(); err != nil {
		return nil, err
	}
	r.now = step{batch: r.batch, session: r.s.id, sequence: q.Sequence}
	s := &r.now
	if err := r.checkGuards(s, q); err != nil {
		return nil, err
	}
	switch q.Kind {
	case coordv1.Kind_KIND_PUT:
		return perform(q, r.put)
	case coordv1.Kind_KIND_DELETE_RANGE:
		return perform(q, r.deleteRange)
	case coordv1.Kind_KIND_TXN:
		return perform(q, r.txn)
	case coordv1.Kind_KIND_LEASE_GRANT:
		return perform(q, r.grant)
	case coordv1.Kind_KIND_LEASE_REVOKE:
		return perform(q, r.revoke)
	case coordv1.Kind_KIND_WITHDRAW:
		return perform(q, func(w *coordv1.Withdraw) statemachine.Result { return r.withdraw(q.Sequence, w.Sequence) })
	}
	return r.procedure(s, q)
}

// perform runs what a plain command would, and returns the outcome.
func perform[T any, M interface {
	*T
	proto.Message
}](q raftv1.ParsedRequest, run func(M) statemachine.Result) ([]byte, error) {
	msg := M(new(T))
	if err := proto.Unmarshal(q.Body, msg); err != nil {
		return nil, errBody
	}
	switch result := run(msg); response := result.Response.(type) {
	case *pb.PutResponse:
		if response.PrevKv == nil {
			return encodeRevisionOutcome(response.Header.Revision), nil
		}
		return encodeMessageOutcome(response)
	case proto.Message:
		return encodeMessageOutcome(response)
	default:
		return nil, result.Err
	}
}

// checkGuards refuses a request unless all of its guards hold.
func (r *requestRun) checkGuards(s *step, q raftv1.ParsedRequest) error {
	if q.Guards == 0 {
		return nil
	}
	for data := range q.EachGuard() {
		guard := &coordv1.Guard{}
		if err := proto.Unmarshal(data, guard); err != nil {
			return fmt.Errorf("%w: a guard of the request does not parse", statemachine.ErrInvalid)
		}
		if holds := r.m.opts.Guard; holds == nil || !holds(s, guard) {
			return statemachine.ErrFenced
		}
	}
	return nil
}

// procedure runs the procedure of a kind.
func (r *requestRun) procedure(s *step, q raftv1.ParsedRequest) ([]byte, error) {
	p := r.m.kinds[q.Kind]
	switch {
	case p != nil:
		response, err := r.runProcedure(p, s, q.Body)
		if err != nil {
			return nil, err
		}
		return encodeOutcome(response), nil
	case q.Kind <= 0 || q.Kind > raftv1.MaxRequestKind:
		return nil, fmt.Errorf("%w: a request of a session cannot have kind %d", statemachine.ErrInvalid, q.Kind)
	}
	r.fail(fmt.Errorf("%w: a request of kind %d", raftv1.ErrUnknown, q.Kind))
	return nil, statemachine.ErrInvalid
}

// grant is leaseGrant with etcd's messages. Who proposes has chosen id and TTL.
func (b *batch) grant(r *pb.LeaseGrantRequest) statemachine.Result {
	ttl := int64(0) // is refused
	if r.TTL > 0 && r.TTL <= lease.MaxTTL/1000 {
		ttl = r.TTL * 1000
	}
	result := b.leaseGrant(&raftv1.LeaseGrant{Id: r.ID, TtlMs: ttl})
	if result.Err == nil {
		result.Response = &pb.LeaseGrantResponse{Header: b.header(), ID: r.ID, TTL: r.TTL}
	}
	return result
}

// revoke is leaseRevoke with etcd's messages.
func (b *batch) revoke(r *pb.LeaseRevokeRequest) statemachine.Result {
	result := b.leaseRevoke(&raftv1.LeaseRevoke{Id: r.ID})
	if result.Err == nil {
		result.Response = &pb.LeaseRevokeResponse{Header: b.header()}
	}
	return result
}

// withdraw undoes the request of this session that has the sequence number of: if it ran, it deletes the entries that
// the request made and that are there still, in one revision; else it leaves the outcome ErrWithdrawn for a copy that
// may come.
func (r *requestRun) withdraw(own, of uint64) statemachine.Result {
	if of == own {
		return refuse(fmt.Errorf("%w: a request that withdraws itself", statemachine.ErrInvalid))
	}
	if err := r.checkSequence(of); err != nil {
		return refuse(err)
	}
	before, ran := r.s.outcomes.bySequence[of]
	if !ran {
		if of > r.s.outcomes.unkept {
			r.keepFreed(of, encodeRefusal(statemachine.ErrWithdrawn))
		}
		return statemachine.Result{Response: &coordv1.Withdrawn{Revision: r.kv.Revision()}}
	}
	r.frees = true
	removed := false
	for _, key := range acquiredKeys(before.data) {
		kv := r.get(key)
		if kv == nil || kv.Lease != r.s.id {
			continue
		}
		a, err := attachment(r.kv.Rows(), kv.Lease, key)
		r.fail(err)
		if a.Sequence == of {
			r.deleteKey(kv)
			removed = true
		}
	}
	return statemachine.Result{Response: &coordv1.Withdrawn{Removed: removed, Revision: r.kv.Revision()}}
}

// transient reports whether a refusal says nothing about the request but only of the moment: it is not stored, so that
// the request is executed when it is sent again.
func transient(err error) bool {
	return errors.Is(err, statemachine.ErrNoSpace) || errors.Is(err, statemachine.ErrCorrupt) ||
		errors.Is(err, statemachine.ErrBacklog)
}
