package queue

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Observe calls seen with every leader of the election name and every value it proclaims, in order, until ctx ends, whose
// cause it returns. After a break in the watch it goes on with the present leader, so changes can be missed, never
// reordered. It fails with ErrUnreachable if no member answers the first read within reach.
func Observe(ctx context.Context, client *clientv3.Client, name string, reach time.Duration, seen func(*clientv3.GetResponse)) error {
	o := &observer{client: client, prefix: name + "/", seen: seen}
	first, cancel := context.WithTimeoutCause(ctx, reach, ErrUnreachable)
	defer cancel()
	resp, err := o.leader(first)
	for err == nil {
		o.follow(ctx, resp)
		if !sleep(ctx, 0) {
			return context.Cause(ctx)
		}
		resp, err = o.leader(ctx)
	}
	return err
}

type observer struct {
	client *clientv3.Client
	prefix string
	seen   func(*clientv3.GetResponse)
	last   int64 // mod revision of what was told last
}

// leader reads the head of the queue.
func (o *observer) leader(ctx context.Context) (resp *clientv3.GetResponse, err error) {
	err = retry(ctx, func(ctx context.Context) error {
		resp, err = o.client.Get(ctx, o.prefix, clientv3.WithFirstCreate()...)
		return err
	})
	return resp, err
}

// follow tells of the leader that was read, if there is one, and returns when it may be another.
func (o *observer) follow(ctx context.Context, resp *clientv3.GetResponse) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := clientv3.WithRev(resp.Header.Revision + 1)
	if len(resp.Kvs) == 0 {
		<-o.client.Watch(ctx, o.prefix, from, clientv3.WithPrefix())
		return
	}
	o.tell(resp)
	for change := range o.client.Watch(ctx, string(resp.Kvs[0].Key), from) {
		for _, ev := range change.Events {
			if ev.Type == mvccpb.Event_DELETE {
				return
			}
			o.tell(&clientv3.GetResponse{Header: change.Header, Kvs: []*mvccpb.KeyValue{ev.Kv}, Count: 1})
		}
		if change.Err() != nil {
			return
		}
	}
}

// tell leaves out what was told before the watch broke.
func (o *observer) tell(resp *clientv3.GetResponse) {
	if rev := resp.Kvs[0].ModRevision; rev > o.last {
		o.last = rev
		o.seen(resp)
	}
}
