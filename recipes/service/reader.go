package service

import (
	"bytes"
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

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

// queue reads the queue of name at the latest revision of this member.
func (s *Service) queue(ctx context.Context, name string) ([]recipes.Entry, statemachine.Revision, error) {
	view, err := s.backend.View()
	if err != nil {
		return nil, 0, fmt.Errorf("read queue of %q: %w", name, err)
	}
	defer view.Close()
	r := &reader{ctx: ctx, view: view}
	q := recipes.Queue(r, name)
	if r.err != nil {
		return nil, 0, fmt.Errorf("read queue of %q: %w", name, r.err)
	}
	return q, view.Revision(), nil
}

// currentQueue is queue after everything that was committed before the call.
func (s *Service) currentQueue(ctx context.Context, name string) ([]recipes.Entry, statemachine.Revision, error) {
	if err := recipes.CheckName(name); err != nil {
		return nil, 0, err
	}
	if err := s.backend.ReadIndex(ctx); err != nil {
		return nil, 0, fmt.Errorf("read index: %w", err)
	}
	return s.queue(ctx, name)
}
