package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// service is what the services of a keyspace share.
type service struct {
	backend         Backend
	history         *statemachine.History
	member          uint64
	maxRequestBytes int
	timeout         time.Duration // of a proposal and of a linearizable read
	log             *zap.Logger
}

func newService(o *Options, k *Keyspace) *service {
	return &service{
		backend: k.Backend, history: k.History, member: o.MemberID, maxRequestBytes: o.MaxRequestBytes,
		timeout: timeout(o), log: o.Logger,
	}
}

// timeout is how long a proposal or a linearizable read may take.
func timeout(o *Options) time.Duration { return 5*time.Second + 2*o.ElectionTimeout }

// requestOverhead is what etcd's envelope adds to the encoding of a request before it compares the size with
// --max-request-bytes: a header with a request id (field 100, 14 bytes) and the request's own tag. The length of the
// request comes on top.
const requestOverhead = 14 + 1

// propose sends request through the log as a command of the kind and returns its result's response.
func propose[R any](ctx context.Context, s *service, kind raftv1.Kind, request proto.Message) (R, error) {
	var none R
	body, err := proto.Marshal(request)
	if err != nil {
		return none, status.Error(codes.Internal, err.Error())
	}
	if err := s.checkSize(len(body)); err != nil {
		return none, err
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	response, err := s.backend.Propose(ctx, kind, body)
	if err != nil {
		return none, waitError(err)
	}
	r, ok := response.(R)
	if !ok {
		return none, status.Error(codes.Internal, fmt.Sprintf("command %d was answered with %T", kind, response))
	}
	return r, nil
}

// checkSize refuses a request whose encoding has n bytes if that is too much.
func (s *service) checkSize(n int) error {
	if n+requestOverhead+uvarintLen(n) > s.maxRequestBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return nil
}

// limit bounds the time of ctx. Most clients bound it themselves, and another context with a timer would cost more than
// everything else here.
func (s *service) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= s.timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// readIndex waits until this member has applied all that was committed.
func (s *service) readIndex(ctx context.Context) error {
	limited, cancel := s.limit(ctx)
	defer cancel()
	err := s.backend.ReadIndex(limited)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return wireError(ctx.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return rpctypes.ErrGRPCTimeout
	}
	return wireError(err)
}

// fill completes the header of a response. A revision of 0 becomes the current one.
func (s *service) fill(h *pb.ResponseHeader) error {
	s.fillWithoutRevision(h)
	if h.Revision != 0 {
		return nil
	}
	revision, err := s.backend.Revision()
	h.Revision = revision
	return wireError(err)
}

func (s *service) fillWithoutRevision(h *pb.ResponseHeader) {
	h.ClusterId = s.history.ID()
	h.MemberId = s.member
	h.RaftTerm = s.backend.Status().Term
}

// filled completes *h, which may be nil.
func (s *service) filled(h **pb.ResponseHeader) error {
	if *h == nil {
		*h = &pb.ResponseHeader{}
	}
	return s.fill(*h)
}

// headerAt is a complete header; the revision is the current one for 0.
func (s *service) headerAt(revision int64) (*pb.ResponseHeader, error) {
	h := &pb.ResponseHeader{Revision: revision}
	return h, s.fill(h)
}
