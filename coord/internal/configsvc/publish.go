package configsvc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// maxAttempts bounds how often a change is tried again because another one came in between. Each failure is a success
// of somebody else.
const maxAttempts = 64

// publication is a version to be.
type publication struct {
	bundle, author, reason, requestID string
	expected                          *int64
	keep                              int32
	rollbackOf                        int64
	documents                         []*coordv1.ConfigDocument
}

// publish makes the publication the current version.
func (s *Service) publish(ctx context.Context, p *publication) (*coordv1.ConfigPublishResponse, error) {
	var published *coordv1.ConfigVersion
	err := s.change(ctx, p.bundle, func(st *state) (done bool, err error) {
		if published, err = s.repeated(ctx, st, p); published != nil || err != nil {
			return true, err
		}
		if p.expected != nil && *p.expected != st.number() {
			return true, conflict("bundle %q is at version %d, not %d", p.bundle, st.number(), *p.expected)
		}
		if err := validate(st.schemas, p.documents); err != nil {
			return true, err
		}
		v := p.version(st.current)
		revision, err := s.commitVersion(ctx, st, v)
		v.Revision, published = revision, v
		return revision != 0, err
	})
	if err != nil {
		return nil, err
	}
	return &coordv1.ConfigPublishResponse{Version: withoutDocuments(published)}, nil
}

// change runs attempt on the state of a bundle until it is done, or has an error.
func (s *Service) change(ctx context.Context, bundle string, attempt func(*state) (done bool, err error)) error {
	for n := range maxAttempts {
		st, err := s.load(ctx, bundle)
		if err != nil {
			return err
		}
		if done, err := attempt(st); done || err != nil {
			return err
		}
		select {
		case <-time.After(rand.N(time.Millisecond * time.Duration(n+1))):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return conflict("bundle %q changed %d times meanwhile", bundle, maxAttempts)
}

// repeated is the version that the same request published before, nil if there is none.
func (s *Service) repeated(ctx context.Context, st *state, p *publication) (*coordv1.ConfigVersion, error) {
	switch {
	case p.requestID == "" || st.current == nil:
		return nil, nil
	case st.current.RequestId == p.requestID:
		return st.current, nil
	case p.expected == nil || *p.expected+1 >= st.number():
		return nil, nil
	}
	next := *p.expected + 1
	after, err := s.versions(ctx, p.bundle, next, next)
	if err != nil || len(after) == 0 || after[0].RequestId != p.requestID {
		return nil, err
	}
	return after[0], nil
}

// version is what p becomes on top of current, which may be nil.
func (p *publication) version(current *coordv1.ConfigVersion) *coordv1.ConfigVersion {
	v := &coordv1.ConfigVersion{
		Number: current.GetNumber() + 1, Author: p.author, Reason: p.reason, TimeUnixMs: time.Now().UnixMilli(),
		Hash: coordv1.ConfigHash(p.documents), Documents: p.documents, RollbackOf: p.rollbackOf,
		Keep: p.keep, RequestId: p.requestID,
	}
	if v.Keep == 0 {
		v.Keep = current.GetKeep()
	}
	if v.Keep == 0 {
		v.Keep = defaultKeep
	}
	return v
}

// commitVersion writes v and deletes what is not kept any more; revision 0 if the bundle has changed.
func (s *Service) commitVersion(ctx context.Context, st *state, v *coordv1.ConfigVersion) (revision int64, err error) {
	value, err := proto.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode version %d of %q: %w", v.Number, st.bundle, err)
	}
	return s.commit(ctx, st, &recipesv1.ConfigCommit{Version: value})
}

func conflict(format string, args ...any) error {
	return refuse(codes.Aborted, coordv1.Error_REASON_CONFIG_CONFLICT, format, args...)
}
