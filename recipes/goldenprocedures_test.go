package recipes_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/golden"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// goldenCall is a request of a session for a procedure, or, with session 0, a call of it by a member.
type goldenCall struct {
	procedure string
	session   int64
	request   proto.Message
}

// goldenCalls has each procedure, in an order in which those behind find what those before have made.
func goldenCalls(t *testing.T) []goldenCall {
	labels := map[string]string{"z": "1", "a": "2"}
	rw := layout.EntryKey(layout.QueueOf(coordv1.QueueKind_QUEUE_RWLOCK, "n"), 1, "")
	instance := &coordv1.ServiceInstance{
		Service: "s", Id: "i", Addr: "127.0.0.1:1", Weight: 1, Mirror: true, Endpoint: []byte("e"),
		State: coordv1.ServiceState_SERVICE_STATE_PASSING,
	}
	drain := &coordv1.ServiceOrder{State: coordv1.ServiceState_SERVICE_STATE_DRAINING, By: "b"}
	return []goldenCall{
		// Who waits is told of the holder in an outcome, which is stored: owner and labels as they are decoded.
		{recipes.Acquire, 1, &coordv1.Acquire{Names: []string{"l"}, Owner: "o", Labels: labels}},
		{recipes.Acquire, 2, &coordv1.Acquire{Names: []string{"l"}, Owner: "o"}},
		{recipes.AskRelease, 2, &coordv1.AskRelease{Name: "l", From: "f", Reason: "r"}},
		{recipes.ForceRelease, 0, &coordv1.ForceReleaseRequest{
			Name: "l", Kind: coordv1.QueueKind_QUEUE_LOCK, Reason: "r",
		}},
		{recipes.Release, 2, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "l", Key: layout.EntryKey("l", 2, ""), Token: 3}},
		}},
		{recipes.Campaign, 1, &coordv1.Campaign{Name: "e", Value: []byte("v")}},
		{recipes.Campaign, 2, &coordv1.Campaign{Name: "e", Value: []byte("v")}},
		{recipes.Proclaim, 1, &coordv1.Proclaim{
			Entry: &coordv1.Guard{Name: "e", Key: layout.EntryKey("e", 1, ""), Token: 7}, Value: []byte("w"),
		}},
		{recipes.Transfer, 2, &coordv1.Transfer{Name: "e", To: layout.EntryKey("e", 2, "")}},

		{recipes.Acquire, 0, &coordv1.Acquire{Names: []string{"n"}, OwnerId: "u", Lease: 1}},
		{recipes.Release, 0, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "n", Key: layout.EntryKey("n", 1, "u"), Token: 11}}, Claim: 11,
		}},
		{recipes.Campaign, 0, &coordv1.Campaign{Name: "n", OwnerId: "u", Lease: 2, Value: []byte("v")}},
		{recipes.Campaign, 0, &coordv1.Campaign{Name: "n", OwnerId: "u", Lease: 2, ResumeToken: 13}},

		{recipes.RWAcquire, 1, &coordv1.RWAcquire{Name: "n", Write: true, Owner: "o"}},
		{recipes.RWAcquire, 0, &coordv1.RWAcquire{Name: "n", Lease: 2}},
		{recipes.RWDowngrade, 1, &coordv1.RWDowngrade{Entry: &coordv1.Guard{Name: "n", Key: rw, Token: 15}}},
		{recipes.SemaphoreAcquire, 2, &coordv1.SemaphoreAcquire{Name: "n", Permits: 2, Limit: 3, Owner: "o"}},
		{recipes.SemaphoreAcquire, 0, &coordv1.SemaphoreAcquire{Name: "n", Permits: 2, Limit: 3, Lease: 1}},
		{recipes.Resize, 2, &coordv1.SemaphoreResize{Name: "n", Limit: 4}},
		{recipes.BarrierEnter, 1, &coordv1.BarrierEnter{Name: "n", Parties: 2}},
		{recipes.BarrierEnter, 0, &coordv1.BarrierEnter{Name: "n", Parties: 2, Lease: 2}},

		{recipes.CounterAdd, 1, &coordv1.CounterAdd{Name: "n", Delta: 7}},
		{recipes.CounterSet, 1, &coordv1.CounterSet{Name: "n", Value: 9, Expected: proto.Int64(7)}},
		{recipes.SequenceNext, 1, &coordv1.SequenceNext{Name: "n", Count: 10}},
		{recipes.LatchSet, 1, &coordv1.LatchSet{Name: "n", Count: 3}},
		{recipes.LatchCountDown, 1, &coordv1.LatchCountDown{Name: "n", Count: 1}},
		{recipes.GateClose, 1, &coordv1.GateClose{Name: "n", Reason: "r", Bound: true}},
		{recipes.GateOpen, 1, &coordv1.GateOpen{Name: "n"}},
		{recipes.GroupJoin, 1, &coordv1.GroupJoin{Name: "n", Member: "m", Data: []byte("d")}},
		{recipes.GroupUpdate, 1, &coordv1.GroupUpdate{Name: "n", Member: "m", Data: []byte("e")}},
		{recipes.GroupLeave, 1, &coordv1.GroupLeave{Name: "n", Member: "m"}},
		{recipes.DeleteObject, 0, &coordv1.DeleteObjectRequest{
			Kind: coordv1.DeleteObjectRequest_COUNTER, Name: "n",
		}},

		{recipes.RegistryPut, 0, &recipesv1.ServicePut{
			Service: "s", Id: "i", Lease: 1, Record: encoded(t, instance),
		}},
		{recipes.RegistryProbed, 0, &recipesv1.ServiceFound{
			Service: "s", Id: "i", Lease: 1, Record: encoded(t, &coordv1.ServiceProbed{Lease: 1, Detail: "d"}),
		}},
		{recipes.RegistryOrder, 0, &coordv1.ServiceOrderRequest{Service: "s", Id: "i", Order: drain}},
		{recipes.RegistryRemove, 0, &recipesv1.ServiceRemove{
			Service: "s", Id: "i", Lease: 1, Note: encoded(t, drain), NoteLease: 2,
		}},
		{recipes.ConfigCommit, 0, &recipesv1.ConfigCommit{
			Bundle: "b", Version: encoded(t, &coordv1.ConfigVersion{Number: 1, Keep: 2, Author: "a"}),
		}},
		{recipes.ConfigReport, 0, &coordv1.ConfigReportRequest{
			Bundle: "b", Status: &coordv1.ConfigStatus{Client: "c", Seen: 1}, Lease: 1,
		}},
		{recipes.ConfigDelete, 0, &coordv1.ConfigDeleteRequest{Bundle: "b", Expected: proto.Int64(1)}},
	}
}

// TestGoldenProcedures: each procedure answers what it answered, and leaves the keys that it left. An answer is state:
// it is stored with the outcome of a session's request. So what a procedure does, and what is decoded for its answer,
// never changes; a change gets another name, and a line here beside the old one.
func TestGoldenProcedures(t *testing.T) {
	m := newMachine(t)
	m.open(1)
	m.open(2)
	kinds, called := map[string]coordv1.Kind{}, map[string]bool{}
	for _, p := range recipes.Procedures() {
		kinds[p.Name()] = p.Kind()
	}
	sequence := map[int64]uint64{}
	var lines []string
	for _, c := range goldenCalls(t) {
		request := encoded(t, c.request)
		var response []byte
		var refusal string
		if c.session != 0 {
			sequence[c.session]++
			response, refusal = m.request(c.session, sequence[c.session], kinds[c.procedure], request,
				1234567)
		} else {
			r := m.do(raftv1.KindCall, &raftv1.Call{Procedure: c.procedure, Request: request, UnixMs: 1234567})
			if r.Err != nil {
				refusal = r.Err.Error()
			} else {
				response = r.Response.(statemachine.Called).Response
			}
		}
		if refusal != "" {
			t.Errorf("%s %v is refused: %s", c.procedure, c.request, refusal)
		}
		called[c.procedure] = true
		lines = append(lines, fmt.Sprintf("%s %x = %x, revision %d", c.procedure, request, response, m.last.Revision))
	}
	for name := range kinds {
		if !called[name] {
			t.Errorf("goldenCalls has no %s", name)
		}
	}
	for _, kv := range m.keys() {
		lines = append(lines, fmt.Sprintf("%q = %x, revisions %d to %d, lease %d", kv.Key, kv.Value, kv.CreateRevision,
			kv.ModRevision, kv.Lease))
	}
	must(t, m.Close())
	golden.Assert(t, strings.Join(lines, "\n")+"\n", "procedures")
}
