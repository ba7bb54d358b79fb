package configsvc

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/recipesvc"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// Store is etcd's KV service of the same member, called without a network in between. It is only read.
type Store interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	// CheckSize refuses a request of n bytes if that is too much, CheckNew something new if there is no space for it.
	CheckSize(n int) error
	CheckNew(n int) error
}

// Service implements coordv1.ConfigServer; see the proto for the contract of each method.
type Service struct {
	coordv1.UnimplementedConfigServer
	store   Store
	propose recipesvc.Propose
}

// New returns a service that reads from store and writes by procedures, which propose runs.
func New(store Store, propose recipesvc.Propose) *Service {
	return &Service{store: store, propose: propose}
}

// Register adds the service to r.
func (s *Service) Register(r grpc.ServiceRegistrar) { coordv1.RegisterConfigServer(r, s) }

func (s *Service) Publish(
	ctx context.Context, req *coordv1.ConfigPublishRequest,
) (*coordv1.ConfigPublishResponse, error) {
	p := &publication{
		bundle: req.Bundle, author: req.Author, reason: req.Reason, requestID: req.RequestId,
		expected: req.Expected, keep: req.Keep, documents: sorted(req.Documents),
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return s.publish(ctx, p)
}

func (s *Service) Rollback(
	ctx context.Context, req *coordv1.ConfigRollbackRequest,
) (*coordv1.ConfigPublishResponse, error) {
	p := &publication{
		bundle: req.Bundle, author: req.Author, reason: req.Reason, requestID: req.RequestId, expected: req.Expected,
	}
	if err := p.checkFields(); err != nil {
		return nil, err
	}
	if req.Version < 1 {
		return nil, invalid("there is no version %d to go back to", req.Version)
	}
	old, err := s.version(ctx, req.Bundle, req.Version)
	if err != nil {
		return nil, err
	}
	p.documents, p.rollbackOf = old.Documents, old.Number
	return s.publish(ctx, p)
}

func (s *Service) Get(ctx context.Context, req *coordv1.ConfigGetRequest) (*coordv1.ConfigGetResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	v, err := s.version(ctx, req.Bundle, req.Version)
	if err != nil {
		return nil, err
	}
	return &coordv1.ConfigGetResponse{Version: v}, nil
}

// pageVersions is how many versions a history reads at once: each can have half a megabyte.
const pageVersions = 8

func (s *Service) History(
	ctx context.Context, req *coordv1.ConfigHistoryRequest,
) (*coordv1.ConfigHistoryResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	current, err := s.version(ctx, req.Bundle, 0)
	if err != nil {
		return nil, err
	}
	var versions []*coordv1.ConfigVersion
	for last := current.Number; last > 0; last -= pageVersions {
		page, err := s.versions(ctx, req.Bundle, max(1, last-pageVersions+1), last)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			if versions = append(versions, withoutDocuments(v)); len(versions) == int(req.Limit) {
				return &coordv1.ConfigHistoryResponse{Versions: versions}, nil
			}
		}
		if len(page) < pageVersions {
			break
		}
	}
	return &coordv1.ConfigHistoryResponse{Versions: versions}, nil
}

func (s *Service) Diff(ctx context.Context, req *coordv1.ConfigDiffRequest) (*coordv1.ConfigDiffResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	from, err := s.version(ctx, req.Bundle, req.From)
	if err != nil {
		return nil, err
	}
	to, err := s.version(ctx, req.Bundle, req.To)
	if err != nil {
		return nil, err
	}
	return &coordv1.ConfigDiffResponse{
		From: withoutDocuments(from), To: withoutDocuments(to), Documents: diff(req.Bundle, from, to),
	}, nil
}

func (s *Service) GetSchemas(
	ctx context.Context, req *coordv1.ConfigGetSchemasRequest,
) (*coordv1.ConfigGetSchemasResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	st, err := s.load(ctx, req.Bundle)
	if err != nil {
		return nil, err
	}
	return &coordv1.ConfigGetSchemasResponse{Schemas: st.schemas, Revision: st.schemasRevision}, nil
}

func (s *Service) Report(ctx context.Context, req *coordv1.ConfigReportRequest) (*coordv1.ConfigReportResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	if err := checkName("client", req.Status.GetClient()); err != nil {
		return nil, err
	}
	if err := s.store.CheckNew(proto.Size(req)); err != nil {
		return nil, writeError(err)
	}
	resp := &coordv1.ConfigReportResponse{}
	if _, err := s.propose.Call(ctx, recipes.ConfigReport, req, resp); err != nil {
		return nil, writeError(err)
	}
	return resp, nil
}

func (s *Service) Delete(ctx context.Context, req *coordv1.ConfigDeleteRequest) (*coordv1.ConfigDeleteResponse, error) {
	if err := checkName("bundle", req.Bundle); err != nil {
		return nil, err
	}
	resp := &coordv1.ConfigDeleteResponse{}
	_, err := s.propose.Call(ctx, recipes.ConfigDelete, req, resp)
	switch {
	case errors.Is(err, recipes.ErrNotSet):
		return nil, unknownBundle(req.Bundle)
	case errors.Is(err, recipes.ErrValueMismatch):
		return nil, conflict("%v", err)
	case err != nil:
		return nil, writeError(err)
	}
	return resp, nil
}
