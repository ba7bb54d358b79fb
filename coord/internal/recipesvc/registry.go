package recipesvc

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// registryServer implements coordv1.RegistryServer; see the proto for the contract of each method. It checks what a
// record says and encodes what is stored, so that the commit does not depend on the libraries of a release.
type registryServer struct {
	coordv1.UnimplementedRegistryServer
	service *Service
}

func (rs registryServer) Put(ctx context.Context, req *coordv1.ServicePutRequest) (*coordv1.ServicePutResponse, error) {
	record, err := rs.recordOf(req.Instance)
	if err != nil {
		return nil, wireError(err)
	}
	return called(ctx, rs.service, recipes.RegistryPut, &recipesv1.ServicePut{
		Service: req.Instance.Service, Id: req.Instance.Id, Record: record, Lease: req.Lease, Before: req.Before,
	}, &coordv1.ServicePutResponse{})
}

// recordOf is what is stored of an instance.
func (rs registryServer) recordOf(said *coordv1.ServiceInstance) ([]byte, error) {
	value, err := proto.Marshal(said)
	if err != nil {
		return nil, fmt.Errorf("%w: the record of an instance: %v", statemachine.ErrInvalid, err)
	}
	in, err := instances.Decode(value)
	if err == nil {
		err = in.Validate()
	}
	if err == nil && in.Probe != nil {
		err = rs.service.backend.CheckProbe(in.Probe)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", statemachine.ErrInvalid, err)
	}
	record := instances.RecordOf(in)
	if in.Mirror {
		record.Endpoint = in.EncodeEndpoint()
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(record)
}

// leftTTL is for how long there is a note that an instance left: so that a watch that missed it does not take the
// instance for expired.
const leftTTL = time.Minute

func (rs registryServer) Remove(
	ctx context.Context, req *coordv1.ServiceRemoveRequest,
) (*coordv1.ServiceRemoveResponse, error) {
	lease, err := rs.grant(ctx, leftTTL)
	if refusal.Is(err) {
		lease, err = 0, nil // there is no room for a note, which must not keep anybody from leaving
	}
	if err != nil {
		return nil, wireError(err)
	}
	return called(ctx, rs.service, recipes.RegistryRemove, &recipesv1.ServiceRemove{
		Service: req.Service, Id: req.Id, Lease: req.Lease, Note: instances.DrainOrder("itself", time.Now()),
		NoteLease: lease,
	}, &coordv1.ServiceRemoveResponse{})
}

func (rs registryServer) grant(ctx context.Context, ttl time.Duration) (statemachine.LeaseID, error) {
	id := rand.Int64N(math.MaxInt64) + 1
	body, err := proto.Marshal(&raftv1.LeaseGrant{Id: id, TtlMs: ttl.Milliseconds()})
	if err != nil {
		return 0, err
	}
	_, err = rs.service.backend.Propose(ctx, raftv1.KindLeaseGrant, body)
	return id, err
}

func (rs registryServer) Order(
	ctx context.Context, req *coordv1.ServiceOrderRequest,
) (*coordv1.ServiceOrderResponse, error) {
	return called(ctx, rs.service, recipes.RegistryOrder, req, &coordv1.ServiceOrderResponse{})
}
