package api

import (
	"bytes"
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// firstChunk is the number of keys in the first chunk of a RangeStream.
const firstChunk = 10

// RangeStream answers a Range in chunks: merging them gives the answer of Range. Only the last one has a header, the
// count and more. All chunks are read at the revision of the first.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	if err := checkRangeStream(r); err != nil {
		return err
	}
	ctx := stream.Context()
	if !r.Serializable {
		if err := s.readIndex(ctx); err != nil {
			return err
		}
	}
	if r.CountOnly {
		return s.streamCount(ctx, r, stream)
	}
	return s.streamChunks(ctx, r, stream)
}

func (s *kvServer) streamCount(ctx context.Context, r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	response, err := s.read(ctx, r, View.Range)
	if err != nil {
		return err
	}
	return s.sendLast(stream, &pb.RangeResponse{Count: response.Count}, response.Header.GetRevision())
}

func (s *kvServer) streamChunks(ctx context.Context, r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	left := r.Limit
	if left == 0 {
		left = math.MaxInt64
	}
	next := &pb.RangeRequest{
		Key: r.Key, RangeEnd: r.RangeEnd, Revision: r.Revision, KeysOnly: r.KeysOnly, Limit: min(firstChunk, left),
	}
	var sent, revision int64
	for {
		chunk, err := s.read(ctx, next, View.Page)
		if err != nil {
			return err
		}
		if revision == 0 { // the first chunk
			revision = chunk.Header.GetRevision()
			if next.Revision <= 0 {
				next.Revision = revision
			}
		}
		sent += int64(len(chunk.Kvs))
		left -= int64(len(chunk.Kvs))
		if !chunk.More || left == 0 {
			last := &pb.RangeResponse{Kvs: chunk.Kvs, More: chunk.More, Count: sent}
			if chunk.More {
				next.Key, next.CountOnly = after(chunk), true
				rest, err := s.read(ctx, next, View.Range)
				if err != nil {
					return err
				}
				last.Count += rest.Count
			}
			return s.sendLast(stream, last, revision)
		}
		if err := stream.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: chunk.Kvs}}); err != nil {
			return err
		}
		next.Key = after(chunk)
		next.Limit = min(nextLimit(next.Limit, proto.Size(chunk), s.maxRequestBytes), left)
	}
}

// after is the first possible key behind a chunk.
func after(chunk *pb.RangeResponse) []byte {
	return append(bytes.Clone(chunk.Kvs[len(chunk.Kvs)-1].Key), 0)
}

// readFunc is View.Range or View.Page.
type readFunc func(View, context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)

// read takes a view of its own, so that a long stream holds no history back.
func (s *kvServer) read(ctx context.Context, r *pb.RangeRequest, how readFunc) (*pb.RangeResponse, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	response, err := how(view, ctx, r)
	return response, wireError(err)
}

func (s *kvServer) sendLast(stream pb.KV_RangeStreamServer, response *pb.RangeResponse, revision int64) error {
	response.Header = &pb.ResponseHeader{Revision: revision}
	s.fillWithoutRevision(response.Header)
	return stream.Send(&pb.RangeStreamResponse{RangeResponse: response})
}

// nextLimit aims at chunks of target bytes. It doubles or halves only well off the target, so that it settles.
func nextLimit(limit int64, size, target int) int64 {
	switch {
	case size < target/2:
		limit *= 2
	case size > target*2:
		limit /= 2
	}
	return max(limit, 1) // 0 would mean unlimited
}
