package stream_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

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
		bodies[i] = request(1, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: fmt.Append(nil, "key-", i), Value: make([]byte, 256)}).Body
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
