package recipes

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of groups.
const (
	GroupJoin   = "group.join.v1"   // coordv1.GroupJoin, GroupJoined
	GroupUpdate = "group.update.v1" // coordv1.GroupUpdate, GroupUpdated
	GroupLeave  = "group.leave.v1"  // coordv1.GroupLeave, GroupLeft
)

func groupProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(GroupJoin, coordv1.Kind_KIND_GROUP_JOIN, groupJoin)),
		growing(requested(GroupUpdate, coordv1.Kind_KIND_GROUP_UPDATE, groupUpdate)),
		freeing(requested(GroupLeave, coordv1.Kind_KIND_GROUP_LEAVE, groupLeave)),
	}
}

// Refusals of groups.
var (
	// ErrMemberExists: another session is the member of this id.
	ErrMemberExists error = &refusal{
		reason: coordv1.Error_REASON_MEMBER_EXISTS, code: codes.AlreadyExists, text: "another session's member",
	}
)

// groupJoin makes a session a member of a group; coordv1's service Group is its contract.
func groupJoin(step statemachine.Step, req *coordv1.GroupJoin) (proto.Message, error) {
	p, err := lookForMember(step, req.Name, req.Member, req.Lease)
	if err != nil {
		return nil, err
	}
	if err := checkData(req.Data); err != nil {
		return nil, err
	}
	if p.old != nil && bytes.Equal(p.old.Value, req.Data) {
		return &coordv1.GroupJoined{Joined: p.old.CreateRevision, Revision: step.Revision()}, nil
	}
	rev, err := step.Put(p.key, req.Data, p.lease)
	if err != nil {
		return nil, err
	}
	joined := &coordv1.GroupJoined{Joined: rev, Revision: rev}
	if p.old != nil {
		joined.Joined = p.old.CreateRevision
	}
	return joined, nil
}

// groupUpdate gives a member other data.
func groupUpdate(step statemachine.Step, req *coordv1.GroupUpdate) (proto.Message, error) {
	p, err := lookForMember(step, req.Name, req.Member, req.Lease)
	if err != nil {
		return nil, err
	}
	if err := checkData(req.Data); err != nil {
		return nil, err
	}
	if p.old == nil {
		return nil, refuse(ErrNotSet, "%q is no member of %q", req.Member, req.Name)
	}
	rev, err := step.Put(p.key, req.Data, p.lease)
	if err != nil {
		return nil, err
	}
	return &coordv1.GroupUpdated{Revision: rev}, nil
}

// groupLeave ends a membership.
func groupLeave(step statemachine.Step, req *coordv1.GroupLeave) (proto.Message, error) {
	p, err := lookForMember(step, req.Name, req.Member, req.Lease)
	if err != nil {
		return nil, err
	}
	left := &coordv1.GroupLeft{Revision: step.Revision()}
	if left.Left, err = step.Delete(p.key); err != nil {
		return nil, err
	}
	if left.Left {
		left.Revision++
	}
	return left, nil
}

// membership is what a session is in a group.
type membership struct {
	key   []byte
	lease statemachine.LeaseID
	old   *mvccpb.KeyValue // nil: it is no member
}

// lookForMember finds what the session that a step is for is in the group. ErrMemberExists, ErrKeyTaken.
func lookForMember(step statemachine.Step, group, id string, lease int64) (p membership, err error) {
	if err = CheckName(group); err != nil {
		return p, err
	}
	if err = layout.CheckMember(id); err != nil {
		return p, invalid("%v", err)
	}
	if p.lease, err = sessionFor(step, lease); err != nil {
		return p, err
	}
	p.key = []byte(layout.MemberKey(group, id))
	p.old = step.Get(p.key)
	switch {
	case p.old == nil || p.old.Lease == p.lease:
		return p, nil
	case p.old.Lease == 0:
		return p, refuse(ErrKeyTaken, "%q", p.key)
	}
	return p, refuse(ErrMemberExists, "%q of %q is session %x's", id, group, p.old.Lease)
}

func checkData(data []byte) error {
	if len(data) > objects.MaxData {
		return invalid("data has %d bytes, more than %d", len(data), objects.MaxData)
	}
	return nil
}
