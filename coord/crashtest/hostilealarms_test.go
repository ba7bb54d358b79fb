package crashtest

import (
	"errors"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Anybody raises and clears alarms of any type for any id, as etcd's tests do. While one is up writes are refused and
// what frees goes on; no number of them swells the members or keeps anyone from clearing them.
func TestHostileAlarms(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	alarms := pb.NewMaintenanceClient(cli.ActiveConnection())
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType, id uint64) (*pb.AlarmResponse, error) {
		return alarms.Alarm(within(t, patience), &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: id})
	}
	put(t, cli, "before/", 3)
	lease, err := cli.Grant(within(t, patience), 3600)
	if err != nil {
		t.Fatal(err)
	}
	ids := []uint64{0, 1, 123, math.MaxUint64, 1 << 63}
	for _, id := range ids {
		if got, err := alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE, id); err != nil || len(got.Alarms) != 1 ||
			got.Alarms[0].MemberID != id {
			t.Fatalf("raising for %d: %v, %v", id, got, err)
		}
	}
	if _, err := cli.Put(within(t, patience), "a", "1"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("a put while space is out: %v", err)
	}
	if _, err := cli.Delete(within(t, patience), "before/", clientv3.WithPrefix()); err != nil {
		t.Errorf("a deletion while space is out: %v", err)
	}
	if _, err := cli.Revoke(within(t, patience), lease.ID); err != nil {
		t.Errorf("a revocation while space is out: %v", err)
	}
	for _, id := range ids {
		if got, err := alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE, id); err != nil || len(got.Alarms) != 1 {
			t.Fatalf("clearing that of %d: %v, %v", id, got, err)
		}
	}
	var refused error
	raised := uint64(0)
	for ; raised < 2000 && refused == nil; raised++ {
		_, refused = alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType(77+raised%3), raised)
	}
	if status.Code(refused) != codes.ResourceExhausted {
		t.Errorf("after %d alarms: %v", raised, refused)
	}
	for _, kind := range []pb.AlarmType{-1, math.MaxInt32, math.MinInt32, pb.AlarmType_NONE} {
		_, _ = alarm(pb.AlarmRequest_ACTIVATE, kind, 1)
		_, _ = alarm(pb.AlarmRequest_DEACTIVATE, kind, 1)
	}
	for _, action := range []pb.AlarmRequest_AlarmAction{-1, 3, math.MaxInt32} {
		if _, err := alarm(action, pb.AlarmType_NOSPACE, 1); err == nil {
			t.Errorf("action %d does something", action)
		}
	}
	killAll(c.members...)
	c.start()
	fresh := c.dial()
	if got, err := fresh.AlarmDisarm(within(t, patience), &clientv3.AlarmMember{}); err != nil ||
		uint64(len(got.Alarms)) != raised-1 {
		t.Errorf("clearing all of %d: %v", raised-1, err)
	}
	put(t, fresh, "after/", 3)
	c.checkEqual()
}
