package statemachine_test

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// A member that was restarted disarms what the others disarm, though nobody knows the type of the alarm.
func TestAlarmsOfAnyTypeSurviveARestart(t *testing.T) {
	d := newDriver(t)
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) *pb.AlarmResponse {
		return d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: 1}))[0].Response.(*pb.AlarmResponse)
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
