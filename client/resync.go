package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Update is what WatchKey and WatchPrefix yield: either the whole range at one revision, or all changes of one
// revision.
type Update struct {
	// Revision is the store's at which the range was read, or that of the changes.
	Revision int64
	// Resync: KVs is all there is at Revision; what was known before counts no more. The first update is one, unless a
	// revision to begin with was given, and so is each after changes that were compacted before they could be seen.
	Resync bool
	KVs    []*mvccpb.KeyValue
	// Events are the changes of the revision, in order, if it is no Resync.
	Events []*clientv3.Event
}

// WatchOption configures WatchKey and WatchPrefix.
type WatchOption func(*watchOptions)

type watchOptions struct {
	revision int64
	etcd     []clientv3.OpOption
}

// WithRevision begins with the changes of this revision instead of the range as it is.
func WithRevision(revision int64) WatchOption {
	return func(o *watchOptions) { o.revision = revision }
}

// WithPrevKV has events carry what was there before.
func WithPrevKV() WatchOption {
	return func(o *watchOptions) { o.etcd = append(o.etcd, clientv3.WithPrevKV()) }
}

// WatchKey yields the key as it is and then its changes, see WatchPrefix.
func (c *Client) WatchKey(ctx context.Context, key string, opts ...WatchOption) iter.Seq2[Update, error] {
	return c.watchRange(ctx, key, opts)
}

// WatchPrefix yields all keys with the prefix as they are at one revision, and then every change, in order and without
// gaps, until ctx ends or the loop is left. It goes on by itself after a broken connection. What was compacted before
// it could be seen is made up for by another update with Resync. An error is the last thing it yields: ctx's,
// ErrClosed, or a refusal by the server.
func (c *Client) WatchPrefix(ctx context.Context, prefix string, opts ...WatchOption) iter.Seq2[Update, error] {
	return c.watchRange(ctx, prefix, opts, clientv3.WithPrefix())
}

func (c *Client) watchRange(ctx context.Context, key string, opts []WatchOption,
	etcd ...clientv3.OpOption) iter.Seq2[Update, error] {
	o := watchOptions{}
	for _, opt := range opts {
		opt(&o)
	}
	return func(yield func(Update, error) bool) {
		w := &resyncing{client: c, key: key, etcd: etcd, watch: append(o.etcd, etcd...), next: o.revision, yield: yield}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for {
			more, err := w.round(ctx)
			switch {
			case !more && err == nil:
				return
			case ctx.Err() != nil:
				yield(Update{}, cause(ctx))
				return
			case !more:
				yield(Update{}, fmt.Errorf("watch %q: %w", key, err))
				return
			}
		}
	}
}

// resyncing is one WatchKey or WatchPrefix.
type resyncing struct {
	client *Client
	key    string
	etcd   []clientv3.OpOption // for reading
	watch  []clientv3.OpOption // for watching
	next   int64               // revision of the next change; 0: the range has to be read first
	yield  func(Update, error) bool
}

// round reads the range if it has to, and watches until history is missing: then it says that there is more to do.
// Without more and error the loop was left.
func (w *resyncing) round(ctx context.Context) (more bool, err error) {
	if w.next == 0 {
		resp, err := w.client.Get(ctx, w.key, w.etcd...)
		if err != nil {
			return false, err
		}
		w.next = resp.Header.Revision + 1
		if !w.yield(Update{Revision: resp.Header.Revision, Resync: true, KVs: resp.Kvs}, nil) {
			return false, nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range w.client.Watch(ctx, w.key, append(w.watch, clientv3.WithRev(w.next))...) {
		switch err := resp.Err(); {
		case errors.Is(err, rpctypes.ErrCompacted):
			w.next = 0
			return true, nil
		case err != nil:
			return false, err
		}
		if !w.deliver(resp.Events) {
			return false, nil
		}
	}
	if ctx.Err() == nil {
		return false, ErrClosed
	}
	return false, cause(ctx)
}

// deliver yields the events of each revision; false if the loop was left.
func (w *resyncing) deliver(events []*clientv3.Event) bool {
	for len(events) > 0 {
		revision, n := events[0].Kv.ModRevision, 1
		for n < len(events) && events[n].Kv.ModRevision == revision {
			n++
		}
		w.next = revision + 1
		if !w.yield(Update{Revision: revision, Events: events[:n:n]}, nil) {
			return false
		}
		events = events[n:]
	}
	return true
}
