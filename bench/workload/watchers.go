package workload

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/bench/wire"
)

// WatchPlan says how many watchers to register and on what.
type WatchPlan struct {
	// Streams of PerStream watchers each, in total Streams×PerStream.
	Streams, PerStream int
	// SharedPerStream of each stream's watchers watch the one key SharedKey; each of the others has a key to itself.
	SharedPerStream int
}

// SharedKey is the key that Streams×SharedPerStream watchers watch.
func (p WatchPlan) SharedKey() []byte { return []byte("watch/shared") }

// SoleKey is the n-th key that exactly one watcher watches.
func (p WatchPlan) SoleKey(n int) []byte { return append([]byte("watch/sole/"), Key(n)...) }

// Sole is the number of keys that one watcher watches.
func (p WatchPlan) Sole() int { return p.Streams * (p.PerStream - p.SharedPerStream) }

// Shared is the number of watchers of the shared key.
func (p WatchPlan) Shared() int { return p.Streams * p.SharedPerStream }

// key returns what the i-th watcher of stream s watches.
func (p WatchPlan) key(s, i int) []byte {
	if i < p.SharedPerStream {
		return p.SharedKey()
	}
	return p.SoleKey(s*(p.PerStream-p.SharedPerStream) + i - p.SharedPerStream)
}

// Watchers are registered watchers whose events are counted.
type Watchers struct {
	plan   WatchPlan
	cancel context.CancelFunc
	events chan int   // how many events one response carried
	failed chan error // holds the first error of any stream
}

// OpenWatchers registers the watchers of plan, streams spread over the pool, and returns when the server has confirmed
// each of them. They live until Close.
func OpenWatchers(ctx context.Context, pool wire.Pool, plan WatchPlan) (*Watchers, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watchers{plan: plan, cancel: cancel, events: make(chan int, plan.Shared()+1), failed: make(chan error, 1)}
	created := make(chan struct{}, plan.Streams)
	for s := range plan.Streams {
		stream, err := pool[s%len(pool)].Watch.Watch(ctx)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("open watch stream %d: %w", s, err)
		}
		go w.receive(ctx, stream, created)
		go w.register(stream, s)
	}
	for range plan.Streams {
		select {
		case <-created:
		case err := <-w.failed:
			cancel()
			return nil, err
		case <-ctx.Done():
			cancel()
			return nil, ctx.Err()
		}
	}
	return w, nil
}

func (w *Watchers) register(stream pb.Watch_WatchClient, s int) {
	for i := range w.plan.PerStream {
		create := &pb.WatchCreateRequest{Key: w.plan.key(s, i)}
		req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
		if err := stream.Send(req); err != nil {
			return // receive gets the reason
		}
	}
}

// receive counts what a stream brings: confirmations until it has all of them, and events.
func (w *Watchers) receive(ctx context.Context, stream pb.Watch_WatchClient, created chan<- struct{}) {
	missing := w.plan.PerStream
	for {
		resp, err := stream.Recv()
		if err == nil && resp.Canceled {
			err = fmt.Errorf("watch %d cancelled: %s", resp.WatchId, resp.CancelReason)
		}
		if err != nil {
			w.fail(err)
			return
		}
		if resp.Created {
			if missing--; missing == 0 {
				created <- struct{}{}
			}
		}
		if len(resp.Events) > 0 {
			select {
			case w.events <- len(resp.Events):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (w *Watchers) fail(err error) {
	select {
	case w.failed <- fmt.Errorf("watch stream: %w", err):
	default:
	}
}

// Close cancels all streams.
func (w *Watchers) Close() { w.cancel() }

// FanOut writes a key that want watchers watch, times over, and returns the time from the start of each put to the
// last of its events. Each put waits for the events of the one before.
func (w *Watchers) FanOut(ctx context.Context, c *wire.Conn, key []byte, want, times int) (*Latency, error) {
	l := NewLatency()
	for range times {
		begin := time.Now()
		put := make(chan error, 1)
		go func() {
			_, err := c.KV.Put(ctx, &pb.PutRequest{Key: key, Value: []byte("changed")})
			put <- err
		}()
		if err := w.await(ctx, want); err != nil {
			return nil, err
		}
		l.Record(time.Since(begin))
		if err := <-put; err != nil {
			return nil, fmt.Errorf("put watched key: %w", err)
		}
	}
	return l, nil
}

// eventTimeout bounds the wait for the events of one put.
const eventTimeout = 30 * time.Second

// await returns when want events have arrived. More than that is an error: they belong to nobody.
func (w *Watchers) await(ctx context.Context, want int) error {
	late := time.NewTimer(eventTimeout)
	defer late.Stop()
	got := 0
	for got < want {
		select {
		case n := <-w.events:
			got += n
		case err := <-w.failed:
			return err
		case <-late.C:
			return fmt.Errorf("%d of %d events arrived within %s", got, want, eventTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if got > want {
		return fmt.Errorf("%d events arrived for a put that %d watch", got, want)
	}
	return nil
}
