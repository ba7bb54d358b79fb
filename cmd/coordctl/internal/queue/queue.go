// Package queue takes a place in the queue of a name and holds it: the layout that etcd's locks and elections share.
//
//	<name>/<lease id in hex> -> value      attached to that lease
//
// The entry with the lowest create revision holds the name, and its create revision is the fencing token. Entries of
// etcdctl, of etcd's concurrency package and of coord's own recipes stand in the same queue.
//
// A hold is advisory until the resource checks the token: between the loss and the moment its holder has stopped, another
// one may have been granted.
package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Errors of Acquire, Release and Held.Err.
var (
	// ErrBusy is returned by Acquire with Try when somebody holds the name or waits for it.
	ErrBusy = errors.New("held by another")
	// ErrUnreachable is returned by Acquire when no member answered in time.
	ErrUnreachable = errors.New("no answer from the cluster")
	// ErrLost says that the entry is gone or can no longer be guaranteed to be there.
	ErrLost = errors.New("lost")

	errReleased = errors.New("released")
)

// Request says what to acquire.
type Request struct {
	// Name of the lock or election.
	Name string
	// Value of the entry: a candidate's proposal, empty for a lock.
	Value string
	// TTL after which a holder that went silent is taken for dead; rounded up to whole seconds.
	TTL time.Duration
	// Try gives up with ErrBusy instead of waiting; nothing is put into the queue then.
	Try bool
	// Reach bounds the time to get into the queue, waiting in it is bounded by the context alone.
	Reach time.Duration
}

// Held is a place at the head of the queue. Its methods are safe for concurrent use.
type Held struct {
	session  *session
	client   *clientv3.Client
	prefix   string
	key      string
	value    string
	token    int64
	revision int64
}

// Acquire waits until the entry it enqueues holds the name. When it fails, also because ctx ended, nothing of it stays in
// the queue, or for the TTL at most if the cluster cannot be reached to remove it. Errors: ErrBusy, ErrUnreachable,
// ErrLost (the lease expired or the entry was deleted while waiting), the cause of ctx, or what the server answered.
func Acquire(ctx context.Context, client *clientv3.Client, req Request) (*Held, error) {
	reach, cancel := context.WithTimeoutCause(ctx, req.Reach, ErrUnreachable)
	defer cancel()
	s, err := openSession(reach, client, req.TTL)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	h := &Held{
		session: s,
		client:  client,
		prefix:  req.Name + "/",
		key:     fmt.Sprintf("%s/%x", req.Name, s.lease),
		value:   req.Value,
	}
	if err := h.enter(ctx, reach, req.Try); err != nil {
		s.close(errReleased)
		return nil, err
	}
	return h, nil
}

func (h *Held) enter(ctx, reach context.Context, try bool) error {
	enqueue := h.enqueue
	if try {
		enqueue = h.enqueueFirst
	}
	if err := enqueue(reach); err != nil {
		return unanswered(ctx, err)
	}
	h.session.watchEntry(h.key, h.token)
	if try {
		return nil
	}
	return h.wait(ctx)
}

// unanswered turns the end of ctx's time into ErrUnreachable: it was not spent in the queue.
func unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// enqueue puts the entry at the end of the queue. Repeating it after a lost answer finds the entry there.
func (h *Held) enqueue(ctx context.Context) error {
	absent := clientv3.Compare(clientv3.CreateRevision(h.key), "=", 0)
	resp, err := h.put(ctx, absent)
	if err != nil {
		return err
	}
	h.token = resp.Header.Revision
	if !resp.Succeeded {
		h.token = resp.Responses[0].GetResponseRange().Kvs[0].CreateRevision
	}
	return nil
}

// enqueueFirst puts the entry only if the queue is empty.
func (h *Held) enqueueFirst(ctx context.Context) error {
	empty := clientv3.Compare(clientv3.CreateRevision(h.prefix), "=", 0).WithPrefix()
	resp, err := h.put(ctx, empty)
	if err != nil {
		return err
	}
	h.token, h.revision = resp.Header.Revision, resp.Header.Revision
	if resp.Succeeded {
		return nil
	}
	mine, first := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
	if len(mine) == 0 || mine[0].CreateRevision != first[0].CreateRevision {
		return ErrBusy
	}
	h.token = mine[0].CreateRevision // an earlier attempt whose answer was lost
	return nil
}

// put writes the entry if cond holds, and reads the own entry and the head of the queue otherwise.
func (h *Held) put(ctx context.Context, cond clientv3.Cmp) (resp *clientv3.TxnResponse, err error) {
	err = retry(ctx, func(ctx context.Context) (err error) {
		resp, err = h.client.Txn(ctx).If(cond).
			Then(clientv3.OpPut(h.key, h.value, clientv3.WithLease(h.session.lease))).
			Else(clientv3.OpGet(h.key), clientv3.OpGet(h.prefix, clientv3.WithFirstCreate()...)).Commit()
		return err
	})
	return resp, err
}

// wait returns when no entry is in front of ours.
func (h *Held) wait(ctx context.Context) error {
	ctx, cancel := h.session.bind(ctx)
	defer cancel()
	for {
		ahead, revision, err := h.ahead(ctx)
		if err != nil {
			return err
		}
		if ahead == "" {
			h.revision = revision
			return nil
		}
		h.untilDeleted(ctx, ahead, revision)
	}
}

// ahead reads the key of the entry just in front of ours, "" if there is none, and the revision at which that was so.
func (h *Held) ahead(ctx context.Context) (key string, revision int64, err error) {
	before := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(h.token-1), clientv3.WithKeysOnly())
	err = retry(ctx, func(ctx context.Context) error {
		resp, err := h.client.Txn(ctx).If(h.there()).Then(clientv3.OpGet(h.prefix, before...)).Commit()
		if err != nil {
			return err
		}
		if !resp.Succeeded {
			return fmt.Errorf("%w: entry %s was deleted", ErrLost, h.key)
		}
		key, revision = "", resp.Header.Revision
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			key = string(kvs[0].Key)
		}
		return nil
	})
	return key, revision, err
}

// untilDeleted returns when key is deleted after revision, and also when that can no longer be told from the watch: the
// caller reads again.
func (h *Held) untilDeleted(ctx context.Context, key string, revision int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deletes := h.client.Watch(ctx, key, clientv3.WithRev(revision+1), clientv3.WithFilterPut())
	for resp := range deletes {
		if len(resp.Events) > 0 || resp.Err() != nil {
			return
		}
	}
}

// there is the condition that the entry is still the one that was granted.
func (h *Held) there() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(h.key), "=", h.token)
}

// Key is the entry's key.
func (h *Held) Key() string { return h.key }

// Token is the fencing token: it grows with every holder of the name.
func (h *Held) Token() int64 { return h.token }

// Revision is the store's revision at which the entry was seen to hold.
func (h *Held) Revision() int64 { return h.revision }

// Lost is closed when the hold can no longer be guaranteed, and by Release.
func (h *Held) Lost() <-chan struct{} { return h.session.ctx.Done() }

// Err tells why Lost is closed; nil while it is not.
func (h *Held) Err() error { return context.Cause(h.session.ctx) }

// Release gives the place up. It deletes the entry only if it is the one that was granted, and fails with ErrLost if it
// was not there any more: then the hold ended earlier than its holder thought. Any other error leaves the place to expire
// with its TTL.
func (h *Held) Release(ctx context.Context) error {
	if err := h.Err(); err != nil {
		h.session.close(errReleased)
		return err
	}
	h.session.stopWatch()
	resp, err := h.client.Txn(ctx).If(h.there()).Then(clientv3.OpDelete(h.key)).Commit()
	h.session.close(errReleased)
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return fmt.Errorf("%w: entry %s was deleted", ErrLost, h.key)
	}
	return nil
}
