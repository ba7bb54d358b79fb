package mirror

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// View is a *machine.View, or a fake of it.
type View interface {
	Ranger
	Revision() statemachine.Revision
	Close()
}

// Reader makes a recipes.Reader of a View. The first error ends all reading and stays in Err.
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

// Children implements recipes.Reader.
func (r *Reader) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	if r.Err == nil {
		r.Err = r.view.Children(r.ctx, parent, fn)
	}
}

// Get implements recipes.Reader.
func (r *Reader) Get(key []byte) *mvccpb.KeyValue {
	if r.Err != nil {
		return nil
	}
	resp, err := r.view.Range(r.ctx, &pb.RangeRequest{Key: key})
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
