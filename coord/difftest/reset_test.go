package difftest

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestResetSparesFragileRevision clears a pair whose last change wrote a key several times at one revision and left
// nothing to delete. A watch from the compacted revision must get the same from both: etcd must not have been compacted
// at that one.
func TestResetSparesFragileRevision(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	key := []byte("b")
	put := putOp(&pb.PutRequest{Key: key, Value: []byte("v")})
	del := deleteOp(&pb.DeleteRangeRequest{Key: key, RangeEnd: []byte{0}})
	for _, ops := range [][]*pb.RequestOp{{put, del}, {del, put, del}} {
		s.call(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: key})
		if ops[0] == put {
			s.call(pb.KV_DeleteRange_FullMethodName, del.GetRequestDeleteRange())
		}
		s.call(pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: ops})
		s.used = 8 // a physical compaction: the answer comes after the removal
		if err := s.reset(); err != nil {
			t.Fatal(err)
		}
		w, err := s.open(0)
		if err == nil {
			err = s.create(w, &pb.WatchCreateRequest{Key: key, StartRevision: s.env.compact})
		}
		if err == nil {
			err = s.compareSlots()
		}
		if err != nil {
			t.Errorf("%v\n%s", err, s.story("  "))
		}
		s.closeSlots()
		s.slots, s.log = [slotCount]*slot{}, nil
	}
}
