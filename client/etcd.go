package client

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// useEtcd puts etcd's client packages over the transport.
func (c *Client) useEtcd() {
	c.plain = clientv3.NewCtxClient(context.Background()) // for the logger, which etcd's packages do not do without
	c.KV = clientv3.NewKVFromKVClient(&kvClient{t: c.t, session: c.Session, shared: true}, c.plain)
	c.Watcher = clientv3.NewWatchFromWatchClient(watchClient{c.t}, c.plain)
	c.Lease = clientv3.NewLeaseFromLeaseClient(leaseClient{&kvClient{t: c.t, session: c.Session, shared: true}},
		c.plain, 5*time.Second)
}

// kv is etcd's API with writes through s.
func (s *Session) kv(guards []*coordv1.Guard) clientv3.KV {
	remote := &kvClient{t: s.t, session: func(context.Context) (*Session, error) { return s, nil }, guards: guards}
	return clientv3.NewKVFromKVClient(remote, s.client.plain)
}

// KV is etcd's API with writes through this session: exactly once, as long as the session lives.
func (s *Session) KV() clientv3.KV { return s.kv(nil) }

// kvClient implements etcd's KV service.
type kvClient struct {
	t       *transport
	session func(context.Context) (*Session, error)
	shared  bool // a lost session is replaced
	guards  []*coordv1.Guard
}

// write sends a request in the session. What was certainly not executed goes to the next session, if there is one.
func (k *kvClient) write(ctx context.Context, kind coordv1.Kind, req, resp proto.Message) error {
	for {
		s, err := k.session(ctx)
		if err != nil {
			return err
		}
		err = k.t.ask(ctx, s, request{kind: kind, body: req, guards: k.guards}, resp)
		if !k.shared || !lostBefore(err) {
			return err
		}
	}
}

// lostBefore says whether a request was not executed because its session ended before.
func lostBefore(err error) bool {
	return isSessionLost(err) && !errors.Is(err, ErrOutcomeUnknown)
}

// isSessionLost says whether the session of a request ended.
func isSessionLost(err error) bool {
	return errors.Is(err, ErrSessionExpired) || errors.Is(err, ErrSessionElsewhere) || errors.Is(err, ErrSessionClosed)
}

// fill completes a header that the state machine made.
func (k *kvClient) fill(h *pb.ResponseHeader) {
	if w := k.t.welcome.Load(); h != nil && w != nil && h.ClusterId == 0 {
		h.ClusterId, h.MemberId = w.ClusterId, w.MemberId
	}
}

func (k *kvClient) Range(ctx context.Context, in *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	resp := &pb.RangeResponse{}
	err := k.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_RANGE, body: in, quick: len(in.RangeEnd) == 0}, resp)
	if err != nil {
		return nil, err
	}
	k.fill(resp.Header)
	return resp, nil
}

func (k *kvClient) RangeStream(ctx context.Context, in *pb.RangeRequest, _ ...grpc.CallOption) (pb.KV_RangeStreamClient,
	error) {
	m, err := openMessages[pb.RangeRequest, pb.RangeStreamResponse](ctx, k.t, coordv1.ChannelKind_CHANNEL_RANGE)
	if err != nil {
		return nil, err
	}
	if err := m.Send(in); err != nil {
		return nil, err
	}
	return m, m.CloseSend()
}

func (k *kvClient) Put(ctx context.Context, in *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	resp := &pb.PutResponse{}
	if err := k.write(ctx, coordv1.Kind_KIND_PUT, in, resp); err != nil {
		return nil, err
	}
	k.fill(resp.Header)
	return resp, nil
}

func (k *kvClient) DeleteRange(ctx context.Context, in *pb.DeleteRangeRequest,
	_ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	resp := &pb.DeleteRangeResponse{}
	if err := k.write(ctx, coordv1.Kind_KIND_DELETE_RANGE, in, resp); err != nil {
		return nil, err
	}
	k.fill(resp.Header)
	return resp, nil
}

// Txn goes as a read if it can only read, unless it is guarded: that a guard holds is a statement of the log.
func (k *kvClient) Txn(ctx context.Context, in *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{}
	var err error
	if len(k.guards) == 0 && readsOnly(in) {
		err = k.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_READ_TXN, body: in, quick: true}, resp)
	} else {
		err = k.write(ctx, coordv1.Kind_KIND_TXN, in, resp)
	}
	if err != nil {
		return nil, err
	}
	k.fill(resp.Header)
	return resp, nil
}

func readsOnly(in *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{in.Success, in.Failure} {
		for _, op := range ops {
			switch r := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
			case *pb.RequestOp_RequestTxn:
				if !readsOnly(r.RequestTxn) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

func (k *kvClient) Compact(ctx context.Context, in *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse,
	error) {
	resp := &pb.CompactionResponse{}
	if err := k.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_COMPACT, body: in}, resp); err != nil {
		return nil, err
	}
	k.fill(resp.Header)
	return resp, nil
}

// watchClient implements etcd's Watch service.
type watchClient struct{ t *transport }

func (w watchClient) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	return openMessages[pb.WatchRequest, pb.WatchResponse](ctx, w.t, coordv1.ChannelKind_CHANNEL_WATCH)
}

// leaseClient implements etcd's Lease service. Leases granted here are not sessions: whoever granted them keeps them
// alive.
type leaseClient struct{ kv *kvClient }

func (l leaseClient) LeaseGrant(ctx context.Context, in *pb.LeaseGrantRequest,
	_ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	resp := &pb.LeaseGrantResponse{}
	if err := l.kv.write(ctx, coordv1.Kind_KIND_LEASE_GRANT, in, resp); err != nil {
		return nil, err
	}
	l.kv.fill(resp.Header)
	return resp, nil
}

func (l leaseClient) LeaseRevoke(ctx context.Context, in *pb.LeaseRevokeRequest,
	_ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	resp := &pb.LeaseRevokeResponse{}
	if err := l.kv.write(ctx, coordv1.Kind_KIND_LEASE_REVOKE, in, resp); err != nil {
		return nil, err
	}
	l.kv.fill(resp.Header)
	return resp, nil
}

func (l leaseClient) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	return openMessages[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse](ctx, l.kv.t,
		coordv1.ChannelKind_CHANNEL_LEASE_KEEP_ALIVE)
}

func (l leaseClient) LeaseTimeToLive(ctx context.Context, in *pb.LeaseTimeToLiveRequest,
	_ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	resp := &pb.LeaseTimeToLiveResponse{}
	return resp, l.kv.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_LEASE_TIME_TO_LIVE, body: in}, resp)
}

func (l leaseClient) LeaseLeases(ctx context.Context, in *pb.LeaseLeasesRequest,
	_ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	resp := &pb.LeaseLeasesResponse{}
	return resp, l.kv.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_LEASE_LEASES, body: in}, resp)
}
