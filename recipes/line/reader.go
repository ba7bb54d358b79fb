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
	Ranger
	Revision() statemachine.Revision
	Close()
}

const maxPage = 1024 // keys

// Reader makes a recipes.Reader of a View: it reads in growing pages, as most scans end early. The first error ends all
// scans and stays in Err.
type Reader struct {
	ctx  context.Context
	view Ranger
	Err  error
}

// Ranger is the part of a View that a Reader needs.
type Ranger interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	// Children calls fn for the keys directly below parent by create revision, and then by key, until fn returns false.
	Children(ctx context.Context, parent []byte, fn func(*mvccpb.KeyValue) bool) error
}

// NewReader reads view as long as ctx lasts.
func NewReader(ctx context.Context, view Ranger) *Reader { return &Reader{ctx: ctx, view: view} }

// Scan implements recipes.Reader.
func (r *Reader) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	for page := int64(16); r.Err == nil; page = min(2*page, maxPage) {
		resp, err := r.view.Range(r.ctx, &pb.RangeRequest{Key: key, RangeEnd: end, Limit: page})
		if err != nil {
			r.Err = err
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

// Children implements recipes.Reader.
func (r *Reader) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	if r.Err == nil {
		r.Err = r.view.Children(r.ctx, parent, fn)
	}
}

// get reads one key; nil if there is none.
func (r *Reader) get(key string) *mvccpb.KeyValue {
	if r.Err != nil {
		return nil
	}
	resp, err := r.view.Range(r.ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		r.Err = err
	}
	if err != nil || len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0]
}

// Read reads a queue from a view.
func Read(ctx context.Context, view View, queue string) (*recipes.Snapshot, error) {
	r := NewReader(ctx, view)
	s := recipes.Read(r, queue)
	return s, r.Err
}
