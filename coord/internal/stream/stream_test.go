package stream_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func TestRequestsOfASession(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	s := c.open(10 * time.Second)
	rev := s.put("k", "v")
	if r := c.get("k"); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" || r.Kvs[0].ModRevision != rev ||
		r.Header.Revision != rev {
		t.Errorf("get: %v", r)
	}
	txn := &pb.TxnResponse{}
	if r := s.do(coordv1.Kind_KIND_TXN, &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("l"), Value: []byte("w")}}},
	}}, txn); r != nil || !txn.Succeeded {
		t.Errorf("txn: %v, %v", r, txn)
	}
	lease := &pb.LeaseGrantResponse{}
	if r := s.do(coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{TTL: 1}, lease); r != nil || lease.ID == 0 ||
		lease.TTL != 2 {
		t.Errorf("lease: %v, %v", r, lease)
	}
	live := &pb.LeaseTimeToLiveResponse{}
	if r := c.ask(coordv1.Kind_KIND_LEASE_TIME_TO_LIVE, &pb.LeaseTimeToLiveRequest{ID: lease.ID}, live); r != nil ||
		live.GrantedTTL != 2 {
		t.Errorf("time to live: %v, %v", r, live)
	}
	deleted := &pb.DeleteRangeResponse{}
	if r := s.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("m")},
		deleted); r != nil || deleted.Deleted != 2 {
		t.Errorf("delete: %v, %v", r, deleted)
	}
	compacted := &pb.CompactionResponse{}
	if r := c.ask(coordv1.Kind_KIND_COMPACT, &pb.CompactionRequest{Revision: rev, Physical: true},
		compacted); r != nil || compacted.Header.Revision == 0 {
		t.Errorf("compact: %v, %v", r, compacted)
	}
	r := c.ask(coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte("k"), Revision: rev - 1}, &pb.RangeResponse{})
	if r.GetReason() != coordv1.Error_REASON_COMPACTED {
		t.Errorf("read of what is compacted: %v", r)
	}
	ended := &coordv1.SessionEnded{}
	if r := c.ask(coordv1.Kind_KIND_SESSION_END, &coordv1.SessionEnd{Session: s.Id, Created: s.Created},
		ended); r != nil {
		t.Errorf("end: %v", r)
	}
	if r := s.do(coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")},
		&pb.PutResponse{}); r.GetReason() != coordv1.Error_REASON_SESSION_NOT_FOUND {
		t.Errorf("put in a session that ended: %v", r)
	}
	if len(c.pushes) > 0 {
		t.Errorf("the end that was asked for was pushed: %v", c.pushes)
	}
}

// A frame is one command, whatever is in it, and all of it is answered.
func TestManyRequestsInOneFrameAreOneEntry(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	s := c.open(time.Minute)
	before := applied(t, cluster)
	const n = 500
	var requests []*coordv1.Request
	for i := range n {
		requests = append(requests, request(uint64(i+1), coordv1.Kind_KIND_PUT,
			&pb.PutRequest{Key: fmt.Append(nil, "k", i)}))
	}
	c.send(batch(s.Id, requests...))
	c.until("responses", func() bool { return len(c.responses) == n })
	for i, r := range c.responses {
		resp := &pb.PutResponse{}
		if refused := decode(t, r.Outcome, resp); refused != nil || r.Sequence != uint64(i+1) || r.Session != s.Id {
			t.Fatalf("response %d: %v", i, r)
		}
	}
	if entries := applied(t, cluster) - before; entries > 3 { // ticks are entries too
		t.Errorf("%d requests took %d entries", n, entries)
	}
	if c.frames > 5 {
		t.Errorf("%d responses came in %d frames", n, c.frames)
	}
}
