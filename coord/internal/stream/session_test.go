package stream_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// attach attaches a session, whoever opened it.
func (c *raw) attach(s *session, epoch uint64) *coordv1.Refusal {
	c.t.Helper()
	return c.ask(coordv1.Kind_KIND_SESSION_ATTACH,
		&coordv1.SessionAttach{Session: s.Id, Created: s.Created, Epoch: epoch}, &coordv1.SessionAttached{})
}

// A request that is sent again, on another stream and through another member, is answered by its first outcome, byte
// for byte, and not executed again.
func TestARetryThroughAnotherMemberIsAnsweredByTheFirstOutcome(t *testing.T) {
	cluster := start(t, coordtest.Options{Members: 3})
	var clients []*raw
	for _, endpoint := range cluster.Endpoints() {
		clients = append(clients, connect(t, endpoint))
	}
	s := clients[0].open(time.Minute)
	body := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("counter"), Value: []byte("x")}}},
	}}
	frame := batch(s.Id, request(1, coordv1.Kind_KIND_TXN, body))
	clients[0].send(frame)
	first := clients[0].response(s.Id, 1)
	for i, c := range clients[1:] {
		if r := c.attach(s, uint64(2+i)); r != nil {
			t.Fatalf("attach: %v", r)
		}
		c.send(frame)
		if again := c.response(s.Id, 1); !proto.Equal(again, first) {
			t.Errorf("member %d answered the retry by %v, not by %v", i+1, again, first)
		}
	}
	if kv := clients[2].get("counter").Kvs[0]; kv.Version != 1 {
		t.Errorf("the request was executed %d times", kv.Version)
	}
	last := &session{raw: clients[2], SessionOpened: s.SessionOpened, sequence: 1}
	last.put("counter", "y")
	last.send(&coordv1.ClientFrame{Batches: []*coordv1.Batch{{
		Session: s.Id, Acknowledged: 2, Requests: []*coordv1.Request{request(1, coordv1.Kind_KIND_TXN, body)},
	}}})
	if r := last.response(s.Id, 1).Refusal; r.GetReason() != coordv1.Error_REASON_SEQUENCE_PAST {
		t.Errorf("a request that was acknowledged: %v", r)
	}
}

// A session belongs to the stream that attached it with the greatest epoch. The others are told and refused.
func TestASessionMovesWithItsEpoch(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	first, second := connect(t, cluster.Endpoints()[0]), connect(t, cluster.Endpoints()[0])
	s := first.open(time.Minute)
	if r := second.attach(s, 1); r.GetReason() != coordv1.Error_REASON_SESSION_ELSEWHERE {
		t.Errorf("attach with the epoch it has: %v", r)
	}
	s.put("k", "1")
	if r := second.attach(s, 7); r != nil {
		t.Fatalf("attach: %v", r)
	}
	lost := first.push(s.Id).GetSessionLost()
	if lost.GetCause() != coordv1.SessionLost_MOVED {
		t.Errorf("the first stream was told %v", lost)
	}
	if r := s.do(coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")},
		nil); r.GetReason() != coordv1.Error_REASON_SESSION_ELSEWHERE {
		t.Errorf("a request of the first stream: %v", r)
	}
	if r := first.attach(s, 7); r.GetReason() != coordv1.Error_REASON_SESSION_ELSEWHERE {
		t.Errorf("attach with the epoch of the other: %v", r)
	}
	if r := first.attach(s, 8); r != nil {
		t.Errorf("attach with a greater one: %v", r)
	}
	s.sequence = 10
	s.put("k", "2")
	wrong := &session{raw: first, SessionOpened: &coordv1.SessionOpened{Id: s.Id, Created: s.Created + 1}}
	if r := first.attach(wrong, 9); r.GetReason() != coordv1.Error_REASON_SESSION_NOT_FOUND {
		t.Errorf("attach of another session of the same id: %v", r)
	}
}

func TestManySessionsAreAttachedTogether(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	first := connect(t, cluster.Endpoints()[0])
	const n = 2500
	var opens []*coordv1.Request
	for i := range n {
		opens = append(opens, request(uint64(i+1), coordv1.Kind_KIND_SESSION_OPEN, &coordv1.SessionOpen{TtlMs: 60_000}))
	}
	first.send(batch(0, opens...))
	first.until("opened", func() bool { return len(first.responses) == n })
	var attaches []*coordv1.Request
	for i, r := range first.responses {
		o := &coordv1.SessionOpened{}
		decode(t, r.Outcome, o)
		attaches = append(attaches, request(uint64(i+1), coordv1.Kind_KIND_SESSION_ATTACH,
			&coordv1.SessionAttach{Session: o.Id, Created: o.Created, Epoch: 2}))
	}
	first.cancel()
	second := connect(t, cluster.Endpoints()[0])
	before := applied(t, cluster)
	second.send(batch(0, attaches...))
	second.until("attached", func() bool { return len(second.responses) == n })
	for _, r := range second.responses {
		if refused := decode(t, r.Outcome, &coordv1.SessionAttached{}); refused != nil {
			t.Fatalf("attach: %v", refused)
		}
	}
	if entries := applied(t, cluster) - before; entries > 10 {
		t.Errorf("%d attaches took %d entries", n, entries)
	}
}

// Heartbeats keep a session; without them it ends, its keys with it, and the client is told before the next answer to a
// heartbeat.
func TestHeartbeatsRenewAndLossComesFirst(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	const ttl = 1500 * time.Millisecond
	kept := c.open(ttl)
	lease := &pb.LeaseGrantResponse{}
	if r := kept.do(coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{TTL: 60}, lease); r != nil {
		t.Fatal(r)
	}
	beat := uint64(0)
	for began := time.Now(); time.Since(began) < 2*ttl; time.Sleep(ttl / 20) { // as a client's heartbeats come
		beat++
		c.send(&coordv1.ClientFrame{Heartbeat: beat})
	}
	c.until("heartbeats", func() bool { return c.heartbeat == beat })
	if len(c.pushes) > 0 {
		t.Fatalf("lost in spite of heartbeats: %v", c.pushes)
	}
	if r := kept.do(coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k"), Lease: kept.Id},
		&pb.PutResponse{}); r != nil {
		t.Fatalf("the session is gone though its stream sent heartbeats: %v", r)
	}
	for began := time.Now(); len(c.get("k").Kvs) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the session does not expire")
		}
	}
	c.send(&coordv1.ClientFrame{Heartbeat: beat + 1})
	for c.heartbeat <= beat {
		if err := c.recv(); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.pushes) != 1 || c.pushes[0].GetSessionLost().GetCause() != coordv1.SessionLost_ENDED {
		t.Errorf("pushes until the heartbeat after the loss: %v", c.pushes)
	}
}

// Sessions live on without a stream, for their TTL.
func TestASessionOutlivesItsStream(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	s := c.open(20 * time.Second)
	s.put("k", "v")
	c.cancel()
	second := connect(t, cluster.Endpoints()[0])
	if r := second.attach(s, 2); r != nil {
		t.Fatalf("attach after the stream ended: %v", r)
	}
	if len(second.pushes) > 0 {
		t.Errorf("pushes: %v", second.pushes)
	}
}

func TestSessionLimits(t *testing.T) {
	cluster := start(t, coordtest.Options{Configure: limit(func(l *limits) { l.Sessions = 2 })})
	c := connect(t, cluster.Endpoints()[0])
	long := string(make([]byte, 257))
	labels := map[string]string{}
	for i := range 65 {
		labels[fmt.Sprint(i)] = ""
	}
	for field, o := range map[string]*coordv1.SessionOpen{
		"ttl_ms 99":        {TtlMs: 99},
		"ttl_ms 86400001":  {TtlMs: 86_400_001},
		"identity.host":    {TtlMs: 1000, Identity: &coordv1.Identity{Host: long}},
		"identity.process": {TtlMs: 1000, Identity: &coordv1.Identity{Process: long}},
		"65 labels":        {TtlMs: 1000, Identity: &coordv1.Identity{Labels: labels}},
		"empty key":        {TtlMs: 1000, Identity: &coordv1.Identity{Labels: map[string]string{"": "x"}}},
		"labels has 4097": {
			TtlMs: 1000, Identity: &coordv1.Identity{Labels: map[string]string{"k": string(make([]byte, 4096))}},
		},
	} {
		wantRefusal(t, field, c.ask(coordv1.Kind_KIND_SESSION_OPEN, o, nil), coordv1.Error_REASON_INVALID, field)
	}
	c.open(time.Minute)
	s := c.open(time.Minute)
	wantRefusal(t, "a third session", c.ask(coordv1.Kind_KIND_SESSION_OPEN, &coordv1.SessionOpen{TtlMs: 1000}, nil),
		coordv1.Error_REASON_TOO_MANY_SESSIONS, "2 sessions")
	if r := c.ask(coordv1.Kind_KIND_SESSION_END, &coordv1.SessionEnd{Session: s.Id, Created: s.Created},
		&coordv1.SessionEnded{}); r != nil {
		t.Fatal(r)
	}
	c.open(time.Minute)
}
