package difftest

import (
	"context"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// step is one operation of a sequence: what to do, and the seed of all choices in it. A step refers to the state
// through env only, so a sequence with steps left out is still a sequence.
type step struct {
	kind kindID
	seed uint64
}

type kindID int

// The kinds of steps.
const (
	kindPut kindID = iota
	kindPutTooLarge
	kindRange
	kindRangeStream
	kindDelete
	kindTxn
	kindCompare
	kindTxnOverlap
	kindTxnOversized
	kindFill
	kindCompact
	kindGrant
	kindShortLease
	kindRevoke
	kindKeepAlive
	kindTimeToLive
	kindLeases
	kindWatch
	kindWatchInvalid
	kindCancelWatch
	kindProgress
	kindCloseSend
	kindNotification
	kindBulk
	kindLostPrev
	kindNoSpace
	kindStatus
)

// kinds holds the name and the action of each kind.
var kinds map[kindID]struct {
	name string
	run  func(*run) error
}

func init() {
	kinds = map[kindID]struct {
		name string
		run  func(*run) error
	}{
		kindPut:          {"put", (*run).put},
		kindPutTooLarge:  {"put too large", (*run).putTooLarge},
		kindRange:        {"range", (*run).rangeKeys},
		kindRangeStream:  {"range stream", (*run).rangeStream},
		kindDelete:       {"delete", (*run).delete},
		kindTxn:          {"txn", (*run).txn},
		kindCompare:      {"txn with one compare", (*run).compare},
		kindTxnOverlap:   {"txn with overlaps", (*run).txnOverlap},
		kindTxnOversized: {"txn at the limit", (*run).txnOversized},
		kindFill:         {"fill", (*run).fill},
		kindCompact:      {"compact", (*run).compact},
		kindGrant:        {"lease grant", (*run).grant},
		kindShortLease:   {"short lease", (*run).shortLease},
		kindRevoke:       {"lease revoke", (*run).revoke},
		kindKeepAlive:    {"lease keep-alive", (*run).keepAlive},
		kindTimeToLive:   {"lease time to live", (*run).timeToLive},
		kindLeases:       {"leases", (*run).listLeases},
		kindWatch:        {"watch", (*run).watch},
		kindWatchInvalid: {"watch that is refused", (*run).watchInvalid},
		kindCancelWatch:  {"cancel watch", (*run).cancelSomeWatch},
		kindProgress:     {"progress request", (*run).progress},
		kindCloseSend:    {"close the client's side of a watch stream", (*run).closeSend},
		kindNotification: {"progress notification", (*run).notification},
		kindBulk:         {"large events", (*run).bulk},
		kindLostPrev:     {"watch from the compacted revision", (*run).lostPrev},
		kindNoSpace:      {"no space", (*run).noSpace},
		kindStatus:       {"status", (*run).status},
	}
}

func (r *run) put() error {
	_, err := r.unary(pb.KV_Put_FullMethodName, r.dice.put(r.env))
	return err
}

func (r *run) putTooLarge() error {
	req := &pb.PutRequest{Key: r.dice.key(), Value: r.dice.blob(pick(r.dice, []int{tooLarge, tooLargeForGRPC}))}
	_, err := r.unary(pb.KV_Put_FullMethodName, req)
	return err
}

func (r *run) rangeKeys() error {
	_, err := r.unary(pb.KV_Range_FullMethodName, r.dice.rangeRequest(r.env))
	return err
}

// rangeStream compares the chunks of a stream, and all chunks merged with the unary answer to the same request.
func (r *run) rangeStream() error {
	req := r.dice.rangeStreamRequest(r.env)
	out, err := r.both("RangeStream", req, func(ctx context.Context, t *target) outcome {
		return t.rangeStream(ctx, req)
	})
	if err != nil || out.code != codes.OK {
		return err
	}
	unary, err := r.unary(pb.KV_Range_FullMethodName, req)
	if err != nil {
		return err
	}
	merged := &pb.RangeResponse{}
	for _, m := range out.msgs {
		proto.Merge(merged, m.(*pb.RangeStreamResponse).RangeResponse)
	}
	return differ(diffOutcomes(unary, outcomeOf(nil, merged))...)
}

func (r *run) delete() error {
	_, err := r.unary(pb.KV_DeleteRange_FullMethodName, r.dice.deleteRange())
	return err
}

func (r *run) txn() error {
	_, err := r.unary(pb.KV_Txn_FullMethodName, defuse(r.dice.txn(r.env, 2)))
	return err
}

func (r *run) compare() error {
	_, err := r.unary(pb.KV_Txn_FullMethodName, &pb.TxnRequest{Compare: []*pb.Compare{r.dice.compare(r.env)}})
	return err
}

func (r *run) txnOverlap() error {
	_, err := r.unary(pb.KV_Txn_FullMethodName, r.dice.overlapping())
	return err
}

func (r *run) txnOversized() error {
	_, err := r.unary(pb.KV_Txn_FullMethodName, r.dice.oversized())
	return err
}

func (r *run) fill() error {
	_, err := r.unary(pb.KV_Txn_FullMethodName, r.dice.fill())
	return err
}

// compact compacts after all watches have caught up: a watch behind would be ended or not, as time has it, and the
// previous value of an event is read when the event is sent.
func (r *run) compact() error {
	if err := r.sync(); err != nil {
		return err
	}
	_, err := r.unary(pb.KV_Compact_FullMethodName, r.dice.compaction(r.env))
	return err
}

// grantTTLs are far apart, so that the order of expiry is the order of TTLs, and long.
var grantTTLs = []int64{1_000, 100_000, 10_000_000, 9_000_000_000}

func (r *run) grant() error {
	req := &pb.LeaseGrantRequest{TTL: pick(r.dice, grantTTLs)}
	if r.dice.chance(65) {
		req.ID = pick(r.dice, []int64{1, 2, 3, 77, -5, 1 << 40, math.MaxInt64, math.MinInt64})
	}
	if r.dice.chance(8) {
		req.TTL = pick(r.dice, []int64{9_000_000_001, math.MaxInt64})
	}
	_, err := r.unary(pb.Lease_LeaseGrant_FullMethodName, req)
	return err
}

// shortLease grants a lease under the least TTL, which the servers raise to 2 s, and revokes it at once.
func (r *run) shortLease() error {
	start := time.Now()
	id := int64(88)
	steps := []func() error{
		func() error {
			req := &pb.LeaseGrantRequest{ID: id, TTL: pick(r.dice, []int64{-9, 0, 1, 2})}
			_, err := r.unary(pb.Lease_LeaseGrant_FullMethodName, req)
			return err
		},
		func() error { return r.keepAliveOf([]int64{id, 404, id}) },
		func() error {
			_, err := r.unary(pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: id})
			return err
		},
	}
	for _, do := range steps {
		err := do()
		if time.Since(start) > time.Second {
			return errTooSlow
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) revoke() error {
	_, err := r.unary(pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: r.dice.anyLease(r.env)})
	return err
}

func (r *run) keepAlive() error {
	ids := make([]int64, 1+r.dice.IntN(3))
	for i := range ids {
		ids[i] = r.dice.anyLease(r.env)
	}
	return r.keepAliveOf(ids)
}

func (r *run) keepAliveOf(ids []int64) error {
	for _, id := range ids {
		r.logf("keep-alive %d", id)
	}
	req := &pb.LeaseKeepAliveRequest{ID: ids[0]}
	_, err := r.both("LeaseKeepAlive", req, func(ctx context.Context, t *target) outcome {
		return t.keepAlive(ctx, ids)
	})
	return err
}

func (r *run) timeToLive() error {
	req := &pb.LeaseTimeToLiveRequest{ID: r.dice.anyLease(r.env), Keys: r.dice.chance(70)}
	_, err := r.unary(pb.Lease_LeaseTimeToLive_FullMethodName, req)
	return err
}

func (r *run) listLeases() error {
	_, err := r.unary(pb.Lease_LeaseLeases_FullMethodName, &pb.LeaseLeasesRequest{})
	return err
}

func (r *run) status() error {
	_, err := r.unary(pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{})
	return err
}

// noSpace raises the alarm of a full store, tries what it forbids and what it allows, and disarms it.
func (r *run) noSpace() error {
	r.env.alarmed = true
	calls := []struct {
		method string
		req    proto.Message
	}{
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_ACTIVATE)},
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_ACTIVATE)},
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_GET)},
		{pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{}},
		{pb.KV_Put_FullMethodName, r.dice.put(r.env)},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a"), Value: []byte("v")}},
		{pb.Lease_LeaseGrant_FullMethodName, &pb.LeaseGrantRequest{ID: 99, TTL: 1000}},
		{pb.KV_Txn_FullMethodName, defuse(r.dice.txn(r.env, 1))},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{
			Success: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: []byte("a")})},
		}},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Failure: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte("a")})}}},
		{pb.KV_DeleteRange_FullMethodName, r.dice.deleteRange()},
		{pb.KV_Range_FullMethodName, r.dice.rangeRequest(r.env)},
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_DEACTIVATE)},
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_DEACTIVATE)},
		{pb.Maintenance_Alarm_FullMethodName, alarm(pb.AlarmRequest_GET)},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a"), Value: []byte("v")}},
	}
	for _, c := range calls {
		if _, err := r.unary(c.method, c.req); err != nil {
			return err
		}
	}
	r.env.alarmed = false
	return nil
}

func alarm(action pb.AlarmRequest_AlarmAction) *pb.AlarmRequest {
	return &pb.AlarmRequest{Action: action, MemberID: 1, Alarm: pb.AlarmType_NOSPACE}
}
