package api

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Services is etcd's API for another service of the same member, which decodes requests and reaches the log in its own
// way but must refuse what etcd's API refuses, and answer what it answers. The errors are those that go over the wire.
// Headers have a revision, and need not have anything else.
//
// The checks of writes never wait. They come before the log, as the state machine trusts what it finds there.
type Services struct {
	kv    *kvServer
	lease *leaseServer
}

// Range executes a range, linearizably if it asks for that.
func (s *Services) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return s.kv.Range(ctx, r)
}

// Txn executes a transaction, and waits.
func (s *Services) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return s.kv.Txn(ctx, r)
}

// NewServices makes them without a server, for tests. k.QuotaBytes is negative: nobody ends what raises its alarm.
func NewServices(opts Options, k Keyspace) *Services {
	opts.ensureDefaults()
	return newServices(newService(&opts, &k), &opts, &k)
}

func newServices(s *service, o *Options, k *Keyspace) *Services {
	q := newQuota(s, k.QuotaBytes)
	return &Services{
		kv:    &kvServer{service: s, quota: q, maxTxnOps: o.MaxTxnOps},
		lease: &leaseServer{service: s, quota: q, minTTL: minLeaseTTL(o.ElectionTimeout)},
	}
}

// CheckSize refuses a request whose encoding has n bytes if that is too much.
func (s *Services) CheckSize(n int) error { return s.kv.checkSize(n) }

// CheckPut checks a put.
func (s *Services) CheckPut(r *pb.PutRequest) error {
	if err := s.kv.quota.checkNow(costOfPut(r)); err != nil {
		return err
	}
	return checkPut(r)
}

// CheckDelete checks a deletion.
func (s *Services) CheckDelete(r *pb.DeleteRangeRequest) error { return checkDelete(r) }

// CheckTxn checks a transaction.
func (s *Services) CheckTxn(r *pb.TxnRequest) error {
	if err := s.kv.quota.checkNow(costOfTxn(r)); err != nil {
		return err
	}
	return checkTxn(r, s.kv.maxTxnOps)
}

// CheckReadTxn checks a transaction that only reads.
func (s *Services) CheckReadTxn(r *pb.TxnRequest) error {
	if err := checkTxn(r, s.kv.maxTxnOps); err != nil {
		return err
	}
	if !isReadOnly(r) {
		return status.Error(codes.InvalidArgument, "etcdserver: the transaction does not only read")
	}
	return nil
}

// IsSerializable reports whether a transaction that only reads needs no linearizable read.
func (s *Services) IsSerializable(r *pb.TxnRequest) bool { return isSerializable(r) }

// CheckRange checks a range.
func (s *Services) CheckRange(r *pb.RangeRequest) error { return checkRange(r) }

// CheckNew refuses something that is new and costs about as many bytes if there is no space for it.
func (s *Services) CheckNew(bytes int) error { return s.kv.quota.checkNow(keyOverhead + bytes) }

// PrepareLeaseGrant checks the grant of a lease and fills in what the log must say: an id, and a TTL that is not too
// short.
func (s *Services) PrepareLeaseGrant(r *pb.LeaseGrantRequest) error {
	if err := s.lease.quota.checkNow(leaseCost); err != nil {
		return err
	}
	if r.TTL > maxLeaseTTL {
		return rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	r.TTL = max(r.TTL, s.lease.minTTL)
	if r.ID == 0 {
		r.ID = DrawLeaseID()
	}
	return nil
}

// TimeToLive answers from what this member has applied.
func (s *Services) TimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	response, err := s.lease.timeToLive(ctx, r)
	if err != nil {
		return nil, err
	}
	response.Header = revisionOf(response.Header)
	return response, nil
}

// Leases answers from what this member has applied.
func (s *Services) Leases(ctx context.Context) (*pb.LeaseLeasesResponse, error) {
	response, err := s.lease.LeaseLeases(ctx, nil)
	if err != nil {
		return nil, err
	}
	response.Header = revisionOf(response.Header)
	return response, nil
}

// Compact compacts, and waits.
func (s *Services) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	response, err := s.kv.Compact(ctx, r)
	if err != nil {
		return nil, err
	}
	response.Header = revisionOf(response.Header)
	return response, nil
}

// KeepAlive serves a stream of etcd's Lease/LeaseKeepAlive.
func (s *Services) KeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	return s.lease.LeaseKeepAlive(stream)
}

// RangeStream serves a stream of etcd's KV/RangeStream.
func (s *Services) RangeStream(r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	return s.kv.RangeStream(r, stream)
}

// Timeout is the time that a proposal or a linearizable read may take.
func (s *Services) Timeout() time.Duration { return s.kv.timeout }

func revisionOf(h *pb.ResponseHeader) *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: h.GetRevision()}
}

// WireError is what a client of etcd's API gets for an error of the state machine or of a Backend.
func WireError(err error) error { return waitError(err) }
