package objects

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// ErrForeign: the key's value is not what its prefix says: somebody wrote it with etcd's API.
var ErrForeign = errors.New("the key has another value")

// ErrNotSet: the latch was never set, or its key was deleted since.
var ErrNotSet = errors.New("nobody set it, or it was deleted")

// Counter is the value of a counter. kv is its key, nil if there is none. ErrForeign.
func Counter(kv *mvccpb.KeyValue) (int64, error) {
	c := &recipesv1.Counter{}
	err := decode(kv, c, func() bool { return true })
	return c.Value, err
}

// Sequence is the last number that a sequence gave out, 0 if it gave none. kv is its key, nil if there is none.
// ErrForeign.
func Sequence(kv *mvccpb.KeyValue) (last int64, err error) {
	s := &recipesv1.Sequence{}
	err = decode(kv, s, func() bool { return s.Last >= 0 })
	return s.Last, err
}

// Latch is the state of a latch, whose revision is kv's. kv is its key, nil if there is none. ErrNotSet, ErrForeign.
func Latch(kv *mvccpb.KeyValue) (*coordv1.LatchState, error) {
	if kv == nil {
		return nil, ErrNotSet
	}
	l := &recipesv1.Latch{}
	err := decode(kv, l, func() bool { return l.Generation > 0 && l.Remaining >= 0 && l.Remaining <= l.Count })
	if err != nil {
		return nil, err
	}
	return &coordv1.LatchState{
		Generation: l.Generation, Count: l.Count, Remaining: l.Remaining, Revision: kv.ModRevision,
	}, nil
}

// Gate is the state of a gate, whose revision is kv's. kv is its key, nil if there is none: the gate is open.
// ErrForeign.
func Gate(kv *mvccpb.KeyValue) (*coordv1.GateState, error) {
	if kv == nil {
		return &coordv1.GateState{}, nil
	}
	g := &recipesv1.Gate{}
	if err := decode(kv, g, func() bool { return true }); err != nil {
		return nil, err
	}
	return &coordv1.GateState{
		Closed: true, Since: kv.CreateRevision, Reason: g.Reason, Session: kv.Lease, Revision: kv.ModRevision,
	}, nil
}

// decode reads the value of kv, which may be nil, into m, which is sane then.
func decode(kv *mvccpb.KeyValue, m proto.Message, sane func() bool) error {
	if kv == nil {
		return nil
	}
	if proto.Unmarshal(kv.Value, m) != nil || len(m.ProtoReflect().GetUnknown()) > 0 || !sane() {
		return fmt.Errorf("%w: %q", ErrForeign, kv.Key)
	}
	return nil
}
