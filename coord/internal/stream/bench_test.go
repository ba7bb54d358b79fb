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

// callers is how many requests are kept under way on one stream: as many as callers who wait for theirs.
const callers = 512

// keepBusy sends n requests in frames of what was answered meanwhile.
func keepBusy(b *testing.B, c *raw, session int64, n int, next func(i int) *coordv1.Request) {
	answered := make(chan int, callers)
	failed := make(chan error, 1)
	go func() {
		for got := 0; got < n; {
			f, err := c.stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			for _, r := range f.Responses {
				if r.Outcome.Refusal != nil {
					failed <- fmt.Errorf("refused: %v", r.Outcome.Refusal)
					return
				}
			}
			got += len(f.Responses)
			answered <- len(f.Responses)
		}
		close(answered)
	}()
	b.ResetTimer()
	room, acknowledged := callers, 0
	for sent := 0; sent < n || acknowledged < n; {
		if k := min(room, n-sent); k > 0 {
			requests := make([]*coordv1.Request, k)
			for i := range requests {
				requests[i] = next(sent + i)
			}
			sent, room = sent+k, room-k
			// Responses come in order here, so what was answered first was sent first.
			batch := &coordv1.Batch{Session: session, Acknowledged: uint64(acknowledged), Requests: requests}
			if session == 0 {
				batch.Acknowledged = 0
			}
			if err := c.stream.Send(&coordv1.ClientFrame{Batches: []*coordv1.Batch{batch}}); err != nil {
				b.Fatal(err)
			}
		}
		select {
		case k := <-answered:
			acknowledged, room = acknowledged+k, room+k
		case err := <-failed:
			b.Fatal(err)
		}
		for more := true; more; {
			select {
			case k := <-answered:
				acknowledged, room = acknowledged+k, room+k
				more = k > 0
			default:
				more = false
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkPuts(b *testing.B) {
	c := connect(b, start(b, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	bodies := make([][]byte, 10_000)
	for i := range bodies {
		bodies[i] = request(1, coordv1.Kind_KIND_PUT, &pb.PutRequest{
			Key: fmt.Append(nil, "key-", i), Value: make([]byte, 256),
		}).Body
	}
	keepBusy(b, c, s.Id, b.N, func(i int) *coordv1.Request {
		return &coordv1.Request{Sequence: uint64(i + 1), Kind: coordv1.Kind_KIND_PUT, Body: bodies[i%len(bodies)]}
	})
}

func BenchmarkGets(b *testing.B) {
	c := connect(b, start(b, coordtest.Options{}).Endpoints()[0])
	c.open(time.Minute).put("k", string(make([]byte, 256)))
	body := request(1, coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte("k")}).Body
	keepBusy(b, c, 0, b.N, func(i int) *coordv1.Request {
		return &coordv1.Request{Sequence: uint64(i + 1), Kind: coordv1.Kind_KIND_RANGE, Body: body}
	})
}

// BenchmarkLocks measures pairs of acquire and release, each a request of its own: 512 locks, each taken and given back
// by one caller. A release names the token of its acquire, so half of the requests wait for an answer before they can
// go.
func BenchmarkLocks(b *testing.B) {
	c := connect(b, start(b, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	acquires := make([][]byte, callers)
	for i := range acquires {
		acquires[i] = request(1, coordv1.Kind_KIND_ACQUIRE,
			&coordv1.Acquire{Names: []string{fmt.Sprint("lock-", i)}}).Body
	}
	caller := make(map[uint64]int, callers) // by sequence
	var sequence uint64
	batch := &coordv1.Batch{Session: s.Id}
	add := func(i int, kind coordv1.Kind, body []byte) {
		sequence++
		caller[sequence] = i
		batch.Requests = append(batch.Requests, &coordv1.Request{Sequence: sequence, Kind: kind, Body: body})
	}
	begun := 0
	for ; begun < min(callers, b.N); begun++ {
		add(begun, coordv1.Kind_KIND_ACQUIRE, acquires[begun])
	}
	b.ResetTimer()
	answered := uint64(0)
	for done := 0; done < b.N; {
		if len(batch.Requests) > 0 {
			batch.Acknowledged = answered
			if err := c.stream.Send(&coordv1.ClientFrame{Batches: []*coordv1.Batch{batch}}); err != nil {
				b.Fatal(err)
			}
			batch = &coordv1.Batch{Session: s.Id}
		}
		f, err := c.stream.Recv()
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range f.Responses {
			if r.Outcome.Refusal != nil || r.Sequence != answered+1 {
				b.Fatalf("after %d: %v", answered, r)
			}
			answered++
			i := caller[r.Sequence]
			delete(caller, r.Sequence)
			acquired := &coordv1.Acquired{}
			if err := proto.Unmarshal(r.Outcome.Response, acquired); err != nil {
				b.Fatal(err)
			}
			if len(acquired.Entries) > 0 {
				e := acquired.Entries[0]
				add(i, coordv1.Kind_KIND_RELEASE, marshal(&coordv1.Release{Entries: []*coordv1.Guard{guard(e)}}))
				continue
			}
			if done++; begun < b.N {
				begun++
				add(i, coordv1.Kind_KIND_ACQUIRE, acquires[i])
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
}
