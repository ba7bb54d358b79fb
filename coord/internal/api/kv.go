package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// kvServer is etcd's KV service.
type kvServer struct {
	*service
	quota     *quota
	maxTxnOps int
	pb.UnsafeKVServer
}

func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	if !r.Serializable {
		if err := s.readIndex(ctx); err != nil {
			return nil, err
		}
	}
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	response, err := view.Range(ctx, r)
	if err != nil {
		return nil, wireError(err)
	}
	return response, s.filled(&response.Header)
}

func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := s.quota.check(ctx, costOfPut(r)); err != nil {
		return nil, err
	}
	if err := checkPut(r); err != nil {
		return nil, err
	}
	response, err := propose[*pb.PutResponse](ctx, s.service, raftv1.KindPut, r)
	if err != nil {
		return nil, err
	}
	return response, s.filled(&response.Header)
}

func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := checkDelete(r); err != nil {
		return nil, err
	}
	response, err := propose[*pb.DeleteRangeResponse](ctx, s.service, raftv1.KindDeleteRange, r)
	if err != nil {
		return nil, err
	}
	return response, s.filled(&response.Header)
}

func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := s.quota.check(ctx, costOfTxn(r)); err != nil {
		return nil, err
	}
	if err := checkTxn(r, s.maxTxnOps); err != nil {
		return nil, err
	}
	execute := s.writeTxn
	if isReadOnly(r) {
		execute = s.readTxn
	}
	response, err := execute(ctx, r)
	if err != nil {
		return nil, err
	}
	return response, s.filled(&response.Header)
}

func (s *kvServer) writeTxn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return propose[*pb.TxnResponse](ctx, s.service, raftv1.KindTxn, r)
}

func (s *kvServer) readTxn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !isSerializable(r) {
		if err := s.readIndex(ctx); err != nil {
			return nil, err
		}
	}
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	response, err := view.Txn(ctx, r)
	return response, wireError(err)
}

// Compact answers at once, or, if the client asks for a physical compaction, when the history is gone on this member.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	response, err := propose[*pb.CompactionResponse](ctx, s.service, raftv1.KindCompact, r)
	if err != nil {
		return nil, err
	}
	if r.Physical {
		select {
		case <-s.backend.CompactionDone(r.Revision):
		case <-ctx.Done():
			return nil, wireError(ctx.Err())
		}
	}
	// etcd tells the revision after the compaction, not the one at which it was applied.
	response.Header = nil
	return response, s.filled(&response.Header)
}
