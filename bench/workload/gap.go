package workload

import (
	"context"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/bench/wire"
)

// Gap measures the longest time between two acknowledged writes of anybody. Safe for concurrent use.
type Gap struct {
	mu struct {
		sync.Mutex
		last    time.Time
		longest time.Duration
		acks    int
	}
}

// NewGap starts measuring at now, as if a write had been acknowledged then.
func NewGap(now time.Time) *Gap {
	g := &Gap{}
	g.mu.last = now
	return g
}

// Ack records that a write was acknowledged at now.
func (g *Gap) Ack(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.longest = max(g.mu.longest, now.Sub(g.mu.last))
	g.mu.last = now
	g.mu.acks++
}

// Reset forgets the longest gap but not when the last write was acknowledged.
func (g *Gap) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.longest, g.mu.acks = 0, 0
}

// Longest returns the longest gap since Reset, the one still open at now included.
func (g *Gap) Longest(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.mu.longest, now.Sub(g.mu.last))
}

// SinceAck returns how long before now the last write was acknowledged.
func (g *Gap) SinceAck(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Sub(g.mu.last)
}

// Acks returns the number of acknowledged writes since Reset.
func (g *Gap) Acks() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.acks
}

// Writers write one key each, again and again.
type Writers struct {
	// Endpoints are the members. Writer i starts at member i modulo their number.
	Endpoints []string
	Number    int
	// Attempt bounds one put. After a put that failed or took longer, a writer goes on at the next member.
	Attempt time.Duration
	// ValueBytes is the size of the values.
	ValueBytes int
	// Acked is told of every acknowledged put, Failed of every one that was sent and not acknowledged; both are called
	// concurrently. A put that found its member down was never sent and is told to nobody.
	Acked  func(time.Time)
	Failed func(error)
}

// connsPerMember is how many connections to each member the writers share.
const connsPerMember = 4

// Run writes until ctx ends and returns when all writers have. The error is of opening connections.
func (w Writers) Run(ctx context.Context) error {
	pool, err := wire.DialPool(w.Endpoints, connsPerMember*len(w.Endpoints))
	if err != nil {
		return err
	}
	defer pool.Close()
	var wg sync.WaitGroup
	for i := range w.Number {
		wg.Go(func() { w.write(ctx, pool, i) })
	}
	wg.Wait()
	return nil
}

// retryPause keeps a writer from spinning while no member takes connections.
const retryPause = 2 * time.Millisecond

func (w Writers) write(ctx context.Context, pool wire.Pool, i int) {
	put := &pb.PutRequest{Key: append([]byte("writer/"), Key(i)...), Value: Data{ValueBytes: w.ValueBytes}.value()}
	at := i
	for ctx.Err() == nil {
		err := w.attempt(ctx, pool[at%len(pool)], put)
		switch {
		case err == nil:
			w.Acked(time.Now())
		case ctx.Err() == nil:
			if !unsent(err) {
				w.Failed(err)
			}
			at++
			_ = sleep(ctx, retryPause)
		}
	}
}

func (w Writers) attempt(ctx context.Context, c *wire.Conn, put *pb.PutRequest) error {
	ctx, cancel := context.WithTimeout(ctx, w.Attempt)
	defer cancel()
	_, err := c.KV.Put(ctx, put)
	return err
}

// unsent reports whether a put failed before anything of it left the client: no server was there to connect to.
func unsent(err error) bool {
	return status.Code(err) == codes.Unavailable && strings.Contains(strings.ToLower(err.Error()),
		"error while dialing")
}
