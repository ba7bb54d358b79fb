package coordtest

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/recipesvc"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/statemachine"
)

// Overwrite puts any key, or deletes it if value is nil, also below _coord/, where the server writes for itself and
// refuses all clients: to see what a program makes of what should never stand there.
func (f *Fake) Overwrite(key string, value []byte) error {
	req := &pb.PutRequest{Key: []byte(key), Value: value, IgnoreValue: value == nil}
	_, err := recipesvc.Propose(f.replica.Propose).Call(principal.Member(context.Background()), overwrite{}.Name(), req,
		&pb.PutResponse{})
	return err
}

// overwrite is a procedure that does it: a PutRequest, or a deletion if it ignores its value.
type overwrite struct{}

func (overwrite) Name() string { return "coordtest.overwrite.v1" }

func (overwrite) Kind() coordv1.Kind { return coordv1.Kind_KIND_UNSPECIFIED }

func (overwrite) Request() proto.Message { return &pb.PutRequest{} }

func (overwrite) Frees() bool { return false }

func (overwrite) Run(step statemachine.Step, request []byte) ([]byte, error) {
	req := &pb.PutRequest{}
	if err := proto.Unmarshal(request, req); err != nil {
		return nil, statemachine.ErrInvalid
	}
	var err error
	if req.IgnoreValue {
		_, err = step.Delete(req.Key)
	} else {
		_, err = step.Put(req.Key, req.Value, 0)
	}
	return nil, err
}
