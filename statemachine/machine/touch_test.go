package machine_test

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Touch writes a key as it is, though there is no space, and once in a revision.
func TestTouchKeepsEverythingButTheRevision(t *testing.T) {
	touch := procedure{name: "touch", run: func(s statemachine.Step) error {
		if _, err := s.Put([]byte("k"), []byte("w"), 7); !errors.Is(err, statemachine.ErrNoSpace) {
			t.Errorf("put: %v", err)
		}
		if _, err := s.Touch([]byte("absent")); !errors.Is(err, statemachine.ErrKeyNotFound) {
			t.Errorf("touch of no key: %v", err)
		}
		if rev, err := s.Touch([]byte("k")); rev != 3 || err != nil {
			t.Errorf("touch: revision %d, %v", rev, err)
		}
		if _, err := s.Touch([]byte("k")); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("touch again: %v", err)
		}
		return nil
	}}
	d := newDriver(t, touch)
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7}),
		command(raftv1.KindAlarm, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE,
		}), call("touch"))
	kv, err := d.view().Get([]byte("k"))
	if err != nil || string(kv.Value) != "v" || kv.Lease != 7 || kv.CreateRevision != 2 || kv.ModRevision != 3 ||
		kv.Version != 2 {
		t.Errorf("touched: %v, %v", kv, err)
	}
	if _, keys, _ := d.m.Lease(7); len(keys) != 1 {
		t.Errorf("the lease has the keys %q", keys)
	}
}
