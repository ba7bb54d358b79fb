package line

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// View is a *statemachine.View, or a fake of it.
type View interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	Revision() statemachine.Revision
	Close()
}

const maxPage = 1024 // keys

// reader makes a recipes.Reader of a View: it reads in growing pages, as most scans end early. The first error ends all
// scans and stays in err.
type reader struct {
	ctx  context.Context
	view View
	err  error
}

// Scan implements recipes.Reader.
func (r *reader) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	for page := int64(16); r.err == nil; page = min(2*page, maxPage) {
		resp, err := r.view.Range(r.ctx, &pb.RangeRequest{Key: key, RangeEnd: end, Limit: page})
		if err != nil {
			r.err = err
			return
		}
		for _, kv := range resp.Kvs {
			if !fn(kv) {
				return
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return
		}
		key = append(bytes.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
}

// get reads one key; nil if there is none.
func (r *reader) get(key string) *mvccpb.KeyValue {
	if r.err != nil {
		return nil
	}
	resp, err := r.view.Range(r.ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		r.err = err
	}
	if err != nil || len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0]
}

// Read reads a queue from a view.
func Read(ctx context.Context, view View, queue string) (*recipes.Snapshot, error) {
	r := &reader{ctx: ctx, view: view}
	s := recipes.Read(r, queue)
	return s, r.err
}
