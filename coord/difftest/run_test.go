package difftest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// difference is what the two servers did differently. The pair is of no more use after it.
type difference struct {
	lines []string
}

func (d *difference) Error() string {
	return "the servers differ (etcd | subject):\n    " + strings.Join(d.lines, "\n    ")
}

func differ(lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	return &difference{lines: lines}
}

// errTooSlow says that the machine was too slow for a lease with a short TTL: what differs may be its expiry.
var errTooSlow = errors.New("machine too slow for a short lease")

// pair is two servers in lockstep: everything that changes a store goes to both.
type pair struct {
	etcd, subject *target
	env           *env
	// used is the number of sequences run on the pair.
	used int
}

func (p *pair) targets() [2]*target { return [2]*target{p.etcd, p.subject} }

// run is one sequence on a pair.
type run struct {
	*pair
	cov   *coverage
	slots [slotCount]*slot
	// createdAt is the revision at which a watch was created last.
	createdAt int64
	// log makes one line for each call, for the report of a difference.
	log []func() string
	// dice are those of the current step.
	dice dice
}

// logf notes a line. It is formatted when it is read: most sequences never are.
func (r *run) logf(format string, args ...any) {
	r.log = append(r.log, func() string {
		for i, a := range args {
			if m, ok := a.(proto.Message); ok {
				args[i] = formatRequest(m)
			}
		}
		return fmt.Sprintf(format, args...)
	})
}

// story is the log as text.
func (r *run) story(indent string) string {
	var b strings.Builder
	for _, line := range r.log {
		b.WriteString(indent + line() + "\n")
	}
	return b.String()
}

// both makes one call to etcd and then to the subject, compares the outcomes, and returns etcd's, normalised.
func (r *run) both(name string, req proto.Message, call func(context.Context, *target) outcome) (outcome, error) {
	requireLeader := r.dice.chance(10)
	var outs [2]outcome
	for i, t := range r.targets() {
		ctx, cancel := context.WithTimeout(withLeader(context.Background(), requireLeader), callTimeout)
		outs[i] = call(ctx, t)
		cancel()
	}
	r.learn(req, outs)
	for i, t := range r.targets() {
		for _, m := range outs[i].msgs {
			t.normalise(m)
			if list, ok := m.(*pb.LeaseLeasesResponse); ok {
				orderLeases(list, r.env.granted)
			}
		}
	}
	r.logf("%s %s -> %s", name, req, outs[0])
	if diffs := diffOutcomes(outs[0], outs[1]); len(diffs) > 0 {
		return outs[0], differ(diffs...)
	}
	r.update(req, outs[0])
	r.cov.call(r.env, req, name, outs[0])
	return outs[0], nil
}

// unary is both for one unary method.
func (r *run) unary(method string, req proto.Message) (outcome, error) {
	name := method[strings.LastIndex(method, "/")+1:]
	return r.both(name, req, func(ctx context.Context, t *target) outcome { return t.unary(ctx, method, req) })
}

// learn gives a lease whose id the servers picked its canonical id.
func (r *run) learn(req proto.Message, outs [2]outcome) {
	grant, ok := req.(*pb.LeaseGrantRequest)
	if !ok || grant.ID != 0 {
		return
	}
	for i, t := range r.targets() {
		for _, m := range outs[i].msgs {
			if id := m.(*pb.LeaseGrantResponse).ID; id > 0 {
				t.learn(firstPicked+r.env.picked, id)
			}
		}
	}
	r.env.picked++
}

// update takes from an answer of etcd what later steps refer to.
func (r *run) update(req proto.Message, out outcome) {
	e := r.env
	if out.code != codes.OK {
		return
	}
	for _, m := range out.msgs {
		if rev := headerRevision(m); rev > e.cur {
			e.cur = rev
		}
	}
	switch q := req.(type) {
	case *pb.CompactionRequest:
		e.compact = q.Revision
	case *pb.LeaseGrantRequest:
		g := out.msgs[0].(*pb.LeaseGrantResponse)
		e.leases = append(e.leases, g.ID)
		e.granted[g.ID] = g.TTL
	case *pb.LeaseRevokeRequest:
		e.leases = slices.DeleteFunc(e.leases, func(id int64) bool { return id == q.ID })
	case *pb.PutRequest:
		e.seePut(q)
	case *pb.DeleteRangeRequest:
		maps.DeleteFunc(e.seen, func(k string, _ *mvccpb.KeyValue) bool {
			return contains(q.Key, q.RangeEnd, []byte(k))
		})
	case *pb.TxnRequest:
		if len(undetected(q)) > 0 {
			e.fragile[e.cur] = true
		}
	case *pb.RangeRequest:
		if q.Revision == 0 && !q.KeysOnly && !q.CountOnly {
			e.see(out.msgs)
		}
	}
}

func (e *env) see(msgs []proto.Message) {
	for _, m := range msgs {
		var kvs []*mvccpb.KeyValue
		switch a := m.(type) {
		case *pb.RangeResponse:
			kvs = a.Kvs
		case *pb.RangeStreamResponse:
			kvs = a.RangeResponse.GetKvs()
		}
		for _, kv := range kvs {
			e.seen[string(kv.Key)] = kv
		}
	}
}

// seePut notes what a put must have made of its key, as far as that is known.
func (e *env) seePut(q *pb.PutRequest) {
	kv := e.seen[string(q.Key)]
	if kv == nil {
		kv = &mvccpb.KeyValue{Key: q.Key, CreateRevision: e.cur}
	}
	kv.Version, kv.ModRevision = kv.Version+1, e.cur
	if !q.IgnoreValue {
		kv.Value = q.Value
	}
	if !q.IgnoreLease {
		kv.Lease = q.Lease
	}
	e.seen[string(q.Key)] = kv
}

// headerRevision returns the revision in the header of an answer, 0 if it has none.
func headerRevision(m proto.Message) int64 {
	if s, ok := m.(*pb.RangeStreamResponse); ok {
		return s.RangeResponse.GetHeader().GetRevision()
	}
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		return h.GetHeader().GetRevision()
	}
	return 0
}

func formatRequest(req proto.Message) string {
	if req == nil {
		return ""
	}
	return format(req)
}

// String is the outcome on one line, cut where it gets long.
func (o outcome) String() string {
	if o.code != codes.OK {
		return statusLine(o)
	}
	var parts []string
	for _, m := range o.msgs {
		parts = append(parts, format(m))
	}
	s := strings.Join(parts, " ")
	if len(s) > 1500 {
		s = s[:1500] + "…"
	}
	return s
}

// sequence runs the steps on the pair after clearing it, and compares all watches at the end.
func (p *pair) sequence(steps []step, cov *coverage) (*run, error) {
	r := &run{pair: p, cov: cov, dice: newDice(uint64(p.used))}
	defer r.closeSlots()
	err := r.reset()
	for i := 0; err == nil && i < len(steps); i++ {
		r.dice = newDice(steps[i].seed)
		r.logf("-- step %d %s", i, kinds[steps[i].kind].name)
		err = kinds[steps[i].kind].run(r)
	}
	if err == nil {
		r.logf("-- end: compare the watches")
		err = r.compareSlots()
	}
	p.used++
	return r, err
}

// reset empties both stores with operations: revisions go on from where they are. The first sequence of a pair
// is left uncompacted, as a fresh store.
func (r *run) reset() error {
	r.env.seen = map[string]*mvccpb.KeyValue{}
	if r.env.alarmed {
		if _, err := r.unary(pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_DEACTIVATE)); err != nil {
			return err
		}
		r.env.alarmed = false
	}
	for _, id := range slices.Clone(r.env.leases) {
		if _, err := r.unary(pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: id}); err != nil {
			return err
		}
	}
	if r.used > 0 {
		all := &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
		if _, err := r.unary(pb.KV_DeleteRange_FullMethodName, all); err != nil {
			return err
		}
		// When there was nothing to delete, the current revision is still the last one of the sequence before.
		if at := r.env.compactable(r.env.cur); at > r.env.compact {
			if _, err := r.unary(pb.KV_Compact_FullMethodName,
				&pb.CompactionRequest{Revision: at, Physical: r.used%8 == 0}); err != nil {
				return err
			}
		}
	}
	r.env.base = r.env.cur
	return nil
}
