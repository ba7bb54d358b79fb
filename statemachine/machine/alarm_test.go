package machine_test

import (
	"errors"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// A member that was restarted disarms what the others disarm, though nobody knows the type of the alarm.
func TestAlarmsOfAnyTypeSurviveARestart(t *testing.T) {
	d := newDriver(t)
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) *pb.AlarmResponse {
		results := d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: 1}))
		return results[0].Response.(*pb.AlarmResponse)
	}
	kinds := []pb.AlarmType{-1, pb.AlarmType_NOSPACE, 3, -2}
	for _, kind := range kinds {
		alarm(pb.AlarmRequest_ACTIVATE, kind)
	}
	if err := d.m.Close(); err != nil {
		t.Fatal(err)
	}
	d.open()
	for _, kind := range kinds {
		if r := alarm(pb.AlarmRequest_DEACTIVATE, kind); len(r.Alarms) != 1 {
			t.Errorf("alarm %d was not found", kind)
		}
	}
	if left := d.view().Alarms(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// However many alarms a client raises, a bounded number is kept, a member can still raise its own, and all can be
// disarmed.
func TestAlarmsAreBounded(t *testing.T) {
	const self = 7
	d := newDriver(t)
	d.do(command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: self, Name: "m"}}))
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType, id uint64) statemachine.Result {
		return d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: id}))[0]
	}
	ids := []uint64{0, 1, math.MaxUint64, 1 << 63}
	for i := uint64(100); len(ids) < statemachine.MaxAlarms; i++ {
		ids = append(ids, i)
	}
	for _, id := range ids {
		if r := alarm(pb.AlarmRequest_ACTIVATE, 77, id); r.Err != nil {
			t.Fatalf("alarm of %d: %v", id, r.Err)
		}
	}
	for what, r := range map[string]statemachine.Result{
		"one more id":                   alarm(pb.AlarmRequest_ACTIVATE, 77, 99),
		"another type":                  alarm(pb.AlarmRequest_ACTIVATE, 78, self),
		"NOSPACE of who is no member":   alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE, 99),
		"CORRUPT of an id of no member": alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_CORRUPT, math.MaxUint64),
	} {
		if !errors.Is(r.Err, statemachine.ErrTooManyAlarms) {
			t.Errorf("%s: %v", what, r.Err)
		}
	}
	if r := alarm(pb.AlarmRequest_ACTIVATE, 77, 1); r.Err != nil {
		t.Errorf("one that is raised already: %v", r.Err)
	}
	if r := alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE, self); r.Err != nil {
		t.Errorf("the member's own: %v", r.Err)
	}
	alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE, self)
	for _, id := range ids {
		if r := alarm(pb.AlarmRequest_DEACTIVATE, 77, id); r.Err != nil ||
			len(r.Response.(*pb.AlarmResponse).Alarms) != 1 {
			t.Fatalf("disarming that of %d: %v", id, r.Err)
		}
	}
	if left := d.view().Alarms(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
