package api

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// What a request costs beside its bytes, in bytes: etcd's estimates.
const (
	keyOverhead = 256
	leaseCost   = 64
)

// quotaSample is how long a measured size is good for: asking the store for every write would cost more than the write.
const quotaSample = 100 * time.Millisecond

// quota refuses writes when the store has reached its size, and raises the NOSPACE alarm then. The size is what the
// data occupies: there is no Defragment to give back the rest. Whoever made it closes it.
type quota struct {
	*service
	limit   int64 // bytes; negative: none
	start   time.Time
	sampled atomic.Int64 // time of the last sample since start, negative before the first one
	used    atomic.Int64

	// The alarm is raised behind the backs of those who must not wait, by one goroutine at a time.
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	mu       sync.Mutex
	raising  bool // a goroutine is under way, or none may begin any more
	underWay sync.WaitGroup
}

func newQuota(s *service, limit int64) *quota {
	q := &quota{service: s, limit: limit, start: time.Now()}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.sampled.Store(-int64(quotaSample))
	return q
}

// check refuses a write of cost bytes that does not fit. A cost of 0 is no write.
func (q *quota) check(ctx context.Context, cost int) error {
	if q.fits(cost) {
		return nil
	}
	q.raise(ctx)
	return rpctypes.ErrGRPCNoSpace
}

// checkNow is check for who must not wait: the alarm is raised in the background.
func (q *quota) checkNow(cost int) error {
	if q.fits(cost) {
		return nil
	}
	q.raiseBehind()
	return rpctypes.ErrGRPCNoSpace
}

// raiseBehind raises the alarm in the background, unless that is under way.
func (q *quota) raiseBehind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.raising {
		return
	}
	q.raising = true
	q.underWay.Go(func() {
		defer guard.Recover(q.log, "quota")
		defer q.raised()
		q.raise(q.ctx)
	})
}

func (q *quota) raised() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.raising = q.ctx.Err() != nil
}

// close gives up raising the alarm, and waits until that has ended; checks go on. It can be called again.
func (q *quota) close() {
	q.mu.Lock()
	q.raising = true
	q.cancel()
	q.mu.Unlock()
	q.underWay.Wait()
}

func (q *quota) fits(cost int) bool {
	return q.limit < 0 || cost == 0 || q.size()+int64(cost) < q.limit
}

// raise raises the alarm if it is not up. The client learns the same if this fails, and the next write tries again.
func (q *quota) raise(ctx context.Context) {
	ctx = principal.Member(ctx)
	if q.alarmed(ctx) {
		return
	}
	alarm := &pb.AlarmRequest{MemberID: q.member, Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}
	_, _ = propose[*pb.AlarmResponse](ctx, q.service, raftv1.KindAlarm, alarm)
}

// alarmed reports whether this member's alarm is up already.
func (q *quota) alarmed(ctx context.Context) bool {
	view, err := q.backend.View(ctx)
	if err != nil {
		return false
	}
	defer view.Close()
	return slices.ContainsFunc(view.Alarms(), func(a *pb.AlarmMember) bool {
		return a.Alarm == pb.AlarmType_NOSPACE && a.MemberID == q.member
	})
}

func (q *quota) size() int64 {
	now, last := int64(time.Since(q.start)), q.sampled.Load()
	if now-last >= int64(quotaSample) && q.sampled.CompareAndSwap(last, now) {
		_, inUse := q.backend.DiskUsage()
		q.used.Store(inUse)
	}
	return q.used.Load()
}

func costOfPut(r *pb.PutRequest) int { return keyOverhead + len(r.Key) + len(r.Value) }

func costOfTxn(r *pb.TxnRequest) int { return max(costOfOps(r.Success), costOfOps(r.Failure)) }

func costOfOps(ops []*pb.RequestOp) int {
	cost := 0
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil {
			cost += costOfPut(put)
		} else if txn := op.GetRequestTxn(); txn != nil {
			cost += costOfTxn(txn)
		}
	}
	return cost
}
