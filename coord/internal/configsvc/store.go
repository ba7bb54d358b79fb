package configsvc

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
)

// state is a bundle at one revision.
type state struct {
	bundle          string
	current         *coordv1.ConfigVersion // nil: there is none
	schemas         *coordv1.ConfigSchemas // may be empty
	schemasRevision int64                  // 0: there are none
}

// number is that of the current version, 0 if there is none.
func (st *state) number() int64 { return st.current.GetNumber() }

// load reads a bundle, linearizably.
func (s *Service) load(ctx context.Context, bundle string) (*state, error) {
	resp, err := s.store.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
		getOp(layout.CurrentKey(bundle)), getOp(layout.SchemasKey(bundle)),
	}})
	if err != nil {
		return nil, err
	}
	st := &state{bundle: bundle, schemas: &coordv1.ConfigSchemas{}}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		if st.current, err = decodeVersion(kv); err != nil {
			return nil, err
		}
	}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		st.schemasRevision = kv.ModRevision
		if err := decode(kv, st.schemas); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// version reads one version, linearizably; number 0 is the current one.
func (s *Service) version(ctx context.Context, bundle string, number int64) (*coordv1.ConfigVersion, error) {
	keys := []*pb.RequestOp{getOp(layout.CurrentKey(bundle))}
	if number != 0 {
		keys = append(keys, getOp(layout.VersionKey(bundle, number)))
	}
	resp, err := s.store.Txn(ctx, &pb.TxnRequest{Success: keys})
	if err != nil {
		return nil, err
	}
	last := resp.Responses[len(keys)-1].GetResponseRange()
	switch {
	case len(last.Kvs) > 0:
		return decodeVersion(last.Kvs[0])
	case len(resp.Responses[0].GetResponseRange().Kvs) == 0:
		return nil, unknownBundle(bundle)
	}
	return nil, unknownVersion(bundle, number)
}

// versions reads the kept versions from first to last, both included, the newest first.
func (s *Service) versions(ctx context.Context, bundle string, first, last int64) ([]*coordv1.ConfigVersion, error) {
	resp, err := s.store.Range(ctx, &pb.RangeRequest{
		Key: []byte(layout.VersionKey(bundle, first)), RangeEnd: []byte(layout.VersionKey(bundle, last+1)),
	})
	if err != nil {
		return nil, err
	}
	var versions []*coordv1.ConfigVersion
	for _, kv := range slices.Backward(resp.Kvs) {
		v, err := decodeVersion(kv)
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// commit writes what req says if the bundle is still as it was loaded. It returns the revision, or 0 if it is not.
func (s *Service) commit(ctx context.Context, st *state, req *recipesv1.ConfigCommit) (int64, error) {
	req.Bundle, req.CurrentRevision, req.SchemasRevision = st.bundle, st.current.GetRevision(), st.schemasRevision
	for _, check := range []func(int) error{s.store.CheckSize, s.store.CheckNew} {
		if err := check(2 * proto.Size(req)); err != nil { // a version is written twice
			return 0, writeError(err)
		}
	}
	resp := &recipesv1.ConfigCommitted{}
	if _, err := s.propose.Call(ctx, recipes.ConfigCommit, req, resp); err != nil {
		return 0, writeError(err)
	}
	return resp.Revision, nil
}

func getOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func decodeVersion(kv *mvccpb.KeyValue) (*coordv1.ConfigVersion, error) {
	v := &coordv1.ConfigVersion{}
	if err := decode(kv, v); err != nil {
		return nil, err
	}
	v.Revision = kv.ModRevision
	return v, nil
}

// decode fails if what stands there is none of ours.
func decode(kv *mvccpb.KeyValue, m proto.Message) error {
	if err := proto.Unmarshal(kv.Value, m); err != nil {
		return status.Errorf(codes.DataLoss, "config: the value of key %q is not a %s: %v", kv.Key,
			m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

func withoutDocuments(v *coordv1.ConfigVersion) *coordv1.ConfigVersion {
	v = proto.CloneOf(v)
	v.Documents = nil
	return v
}
