package stream

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/api"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// read is a request that is answered from a view.
type read struct {
	item   item
	stale  bool // it needs not show what was committed before it
	answer func(context.Context, api.View) (proto.Message, error)
}

// readQueue holds the reads that gather while others are answered, and chores for the same goroutine, which come first.
type readQueue struct {
	wake   chan struct{}
	mu     sync.Mutex
	list   []read
	chores []func()
}

// chore has fn run soon: for who must not do it where it is.
func (st *stream) chore(fn func()) {
	q := &st.reads
	q.mu.Lock()
	q.chores = append(q.chores, fn)
	q.mu.Unlock()
	signal(q.wake)
}

func (q *readQueue) add(r read) {
	q.mu.Lock()
	q.list = append(q.list, r)
	q.mu.Unlock()
	signal(q.wake)
}

// takeAll returns what gathered. spare is memory for what comes next.
func (q *readQueue) takeAll(spare []read) ([]read, []func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken, chores := q.list, q.chores
	q.list, q.chores = spare[:0], nil
	return taken, chores
}

// read answers reads until the stream ends: all that gathered during one ReadIndex from one view.
func (st *stream) read() {
	var spare []read
	for {
		select {
		case <-st.reads.wake:
		case <-st.ctx.Done():
			return
		}
		all, chores := st.reads.takeAll(spare)
		for _, do := range chores {
			do()
		}
		st.answerReads(all)
		clear(all)
		spare = all
	}
}

// answerReads answers the stale ones first: they do not need a quorum.
func (st *stream) answerReads(all []read) {
	stale := 0
	for i := range all {
		if all[i].stale {
			stale++
		}
	}
	if stale > 0 {
		st.answerFromView(all, true)
	}
	if stale == len(all) {
		return
	}
	ctx, cancel := context.WithTimeout(st.ctx, st.server.opts.Etcd.Timeout())
	defer cancel()
	if err := st.server.opts.Backend.ReadIndex(ctx); err != nil {
		st.refuseReads(all, false, err)
		return
	}
	st.answerFromView(all, false)
}

func (st *stream) refuseReads(all []read, stale bool, err error) {
	why := refusal(err)
	for _, r := range all {
		if r.stale == stale {
			st.refuse(r.item, why)
		}
	}
}

// answerFromView answers those that are stale, or those that are not. It waits while the client does not read: a
// response can be far larger than the request.
func (st *stream) answerFromView(all []read, stale bool) {
	view, err := st.server.opts.Backend.View(st.ctx)
	if err != nil {
		st.refuseReads(all, stale, err)
		return
	}
	defer view.Close()
	for _, r := range all {
		if r.stale != stale {
			continue
		}
		if !st.out.wait() {
			return
		}
		response, err := r.answer(st.ctx, view)
		if err == nil {
			var encoded []byte
			if encoded, err = appendOutcome(response); err == nil {
				st.out.respond(0, 0, answer{r.item.sequence, encoded})
				st.flow.release(1, r.item.bytes)
				continue
			}
		}
		st.refuse(r.item, refusal(err))
	}
}

// appendOutcome is the outcome of a request that was answered by m.
func appendOutcome(m proto.Message) ([]byte, error) {
	size := proto.Size(m)
	b := make([]byte, 0, size+6)
	b = protowire.AppendTag(b, raftv1.OutcomeResponse, protowire.BytesType)
	b = appendLength(b, size)
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

// takeRead queues a read, or refuses what is none.
func (st *stream) takeRead(r *request) {
	out := read{item: r.item()}
	refused := st.prepareRead(r, &out)
	if refused != nil {
		st.refuse(out.item, refused)
		return
	}
	st.reads.add(out)
}

// prepareRead checks a read and says how it is answered.
func (st *stream) prepareRead(r *request, out *read) *coordv1.Refusal {
	etcd := st.server.opts.Etcd
	switch r.Kind {
	case coordv1.Kind_KIND_RANGE:
		body := &pb.RangeRequest{}
		out.answer = func(ctx context.Context, v api.View) (proto.Message, error) { return message(v.Range(ctx, body)) }
		refused := checked(r, body, etcd.CheckRange)
		out.stale = body.Serializable
		return refused
	case coordv1.Kind_KIND_READ_TXN:
		body := &pb.TxnRequest{}
		out.answer = func(ctx context.Context, v api.View) (proto.Message, error) { return message(v.Txn(ctx, body)) }
		refused := checked(r, body, etcd.CheckReadTxn)
		out.stale = refused == nil && etcd.IsSerializable(body)
		return refused
	case coordv1.Kind_KIND_LEASE_TIME_TO_LIVE:
		body := &pb.LeaseTimeToLiveRequest{}
		out.answer = func(ctx context.Context, _ api.View) (proto.Message, error) {
			return message(etcd.TimeToLive(ctx, body))
		}
		return checked(r, body, nil)
	case coordv1.Kind_KIND_LEASE_LEASES:
		out.stale = true // as in etcd
		out.answer = func(ctx context.Context, _ api.View) (proto.Message, error) { return message(etcd.Leases(ctx)) }
		return nil
	}
	return st.prepareRecipeRead(r, out)
}

// message makes a proto.Message of a response, without making one of a nil pointer.
func message[M proto.Message](m M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}
