package client

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// What counters, sequences, latches, gates and groups share. What their keys mean is package objects'.

// object is a named thing whose state is a key.
type object struct {
	recipe
	kind layout.Kind
	name string
}

func (o *object) key() string { return o.kind.Key(o.name) }

// check says whether the name can be one. The server looks at it when something is written.
func (o *object) check() error {
	if err := o.kind.Check(o.name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// change sends a request that changes something, and returns the session that it went through, unless there is an
// error. What was certainly not executed, because the shared session had ended, goes to the next one.
func (r recipe) change(ctx context.Context, kind coordv1.Kind, req, resp proto.Message) (*Session, error) {
	for {
		s, err := r.session(ctx)
		if err != nil {
			return nil, err
		}
		err = s.change(ctx, kind, req, resp)
		switch {
		case err == nil:
			return s, nil
		case r.own != nil || !lostBefore(err):
			return nil, err
		}
	}
}

func (s *Session) change(ctx context.Context, kind coordv1.Kind, req, resp proto.Message) error {
	return s.t.ask(ctx, s, request{kind: kind, body: req}, resp)
}

// read returns the key, nil if there is none, and the store's revision, linearizably.
func (o *object) read(ctx context.Context) (*mvccpb.KeyValue, int64, error) {
	if err := o.check(); err != nil {
		return nil, 0, err
	}
	resp, err := o.client.Get(ctx, o.key())
	if err != nil {
		return nil, 0, err
	}
	if len(resp.Kvs) == 0 {
		return nil, resp.Header.Revision, nil
	}
	return resp.Kvs[0], resp.Header.Revision, nil
}

// await shows see the key as it is, nil if there is none, and then as each change leaves it, until see says that it is
// over. Changes that were compacted before they could be seen are left out.
func (o *object) await(ctx context.Context, see func(*mvccpb.KeyValue) (over bool, err error)) error {
	if err := o.check(); err != nil {
		return err
	}
	for u, err := range o.client.WatchKey(ctx, o.key()) {
		if err != nil {
			return err
		}
		if over, err := see(u.one()); over || err != nil {
			return objectError(err)
		}
	}
	return cause(ctx) // not reached: an error is the last thing that a watch yields
}

// one is the key of an update of WatchKey, nil if there is none.
func (u *Update) one() *mvccpb.KeyValue {
	switch {
	case u.Resync && len(u.KVs) > 0:
		return u.KVs[0]
	case u.Resync:
		return nil
	}
	last := u.Events[len(u.Events)-1]
	if last.Type == mvccpb.Event_DELETE {
		return nil
	}
	return last.Kv
}

// plain are the events as package objects takes them.
func (u *Update) plain() []*mvccpb.Event {
	events := make([]*mvccpb.Event, len(u.Events))
	for i, e := range u.Events {
		events[i] = (*mvccpb.Event)(e)
	}
	return events
}

// remove deletes what stays under a name, and reports whether there was anything. It can be repeated.
func (r recipe) remove(ctx context.Context, kind coordv1.DeleteObjectRequest_Kind, name string) (bool, error) {
	conn, err := r.client.Conn()
	if err != nil {
		return false, err
	}
	resp, err := coordv1.NewIntrospectionClient(conn).DeleteObject(ctx,
		&coordv1.DeleteObjectRequest{Kind: kind, Name: name})
	if err != nil {
		return false, fmt.Errorf("delete %q: %w", name, fromWire(err))
	}
	return resp.Deleted, nil
}
