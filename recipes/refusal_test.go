package recipes_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

func (m *testMachine) campaign(
	session int64, sequence uint64, name string, priority int64,
) (*coordv1.Acquired, string) {
	m.Helper()
	body, err := proto.Marshal(&coordv1.Campaign{Name: name, Priority: priority, Value: []byte("v")})
	must(m.T, err)
	response, refused := m.request(session, sequence, coordv1.Kind_KIND_CAMPAIGN, body, 0)
	got := &coordv1.Acquired{}
	must(m.T, proto.Unmarshal(response, got))
	return got, refused
}

func (m *testMachine) noSpace(action pb.AlarmRequest_AlarmAction) {
	m.do(raftv1.KindAlarm, &pb.AlarmRequest{Action: action, MemberID: 9, Alarm: pb.AlarmType_NOSPACE})
}

// Get implements recipes.Reader.
func (m *testMachine) Get(key []byte) *mvccpb.KeyValue {
	for _, kv := range m.keys() {
		if bytes.Equal(kv.Key, key) {
			return kv
		}
	}
	return nil
}

func (m *testMachine) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	view, err := m.View()
	must(m.T, err)
	defer view.Close()
	must(m.T, view.Children(context.Background(), parent, fn))
}

func (m *testMachine) broken() string {
	view, err := m.View()
	must(m.T, err)
	defer view.Close()
	var names []string
	for _, q := range view.BrokenQueues() {
		if !m.QueueBroken(q.Queue) || q.Index == 0 || q.Revision == 0 || q.Err == "" {
			m.Errorf("broken queue %+v", q)
		}
		names = append(names, q.Queue)
	}
	return strings.Join(names, " ")
}

// TestCampaignAgainWhereTheLeaderCannotBeWritten: whatever stands as the leader's record and whatever alarm is raised,
// a candidate that exists campaigns again. What is refused leaves no trace; once there is space, somebody leads.
func TestCampaignAgainWhereTheLeaderCannotBeWritten(t *testing.T) {
	for record, value := range map[string]string{
		"broken": "\xff", "empty": "",
		"of another": string(encoded(t, &recipesv1.Leader{Key: "_coord/elections/x/7", Token: 3})),
	} {
		for _, candidates := range [][]int64{{1}, {1, 2}, {2, 1}} { // by priority
			t.Run(fmt.Sprintf("%s record, %v", record, candidates), func(t *testing.T) {
				m := newMachine(t)
				for _, id := range candidates {
					m.open(id)
					m.campaign(id, 1, "x", id)
				}
				m.put(&pb.PutRequest{
					Key: []byte(layout.RecordKey("_coord/elections/x", layout.Leader)), Value: []byte(value),
				})
				m.noSpace(pb.AlarmRequest_ACTIVATE)
				before := fmt.Sprint(m.keys())
				for _, id := range candidates {
					if got, refused := m.campaign(id, 2, "x", id); !strings.Contains(refused, "space") {
						t.Errorf("without space: %v %s", got, refused)
					}
				}
				if after := fmt.Sprint(m.keys()); after != before {
					t.Errorf("what was refused left\n%s\nit was\n%s", after, before)
				}
				m.noSpace(pb.AlarmRequest_DEACTIVATE)
				for _, id := range candidates {
					if got, refused := m.campaign(id, 3, "x", id); refused != "" {
						t.Errorf("with space: %v %s", got, refused)
					}
				}
				if leader, ok := recipes.Read(m, "_coord/elections/x").Holder(); !ok {
					t.Errorf("%+v leads", leader)
				}
				must(t, m.Close())
			})
		}
	}
}

// TestReactionThatFails: the next leader of this election cannot be written, as its key is not UTF-8. What frees goes
// on, and the queue is broken; anything else is refused as a whole. A later reaction that succeeds mends the queue.
func TestReactionThatFails(t *testing.T) {
	m, queue := newMachine(t), "_coord/elections/\xff"
	for id := int64(1); id <= 4; id++ {
		m.open(id)
		m.put(&pb.PutRequest{
			Key: []byte(layout.EntryKey(queue, id, "")), Value: encoded(t, &recipesv1.Candidate{Priority: id}),
			Lease: id,
		})
	}
	m.put(&pb.PutRequest{Key: []byte("_coord/rwlocks/other/3"), Lease: 3})
	before := fmt.Sprint(m.keys())
	txn := []*pb.RequestOp{
		deletion(layout.EntryKey(queue, 4, "")), {
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}},
		},
	}
	if r := m.byHand(byHand{}, txn...); !errors.Is(r.Err, statemachine.ErrQueueBroken) ||
		fmt.Sprint(m.keys()) != before || m.broken() != "" {
		t.Errorf("a transaction that deletes and puts: %+v, broken %q, keys\n%v\nbefore\n%s", r, m.broken(), m.keys(),
			before)
	}
	if r := m.delete(layout.EntryKey(queue, 4, "")); r.Err != nil || m.broken() != queue ||
		len(recipes.Queue(m, queue)) != 3 {
		t.Errorf("a deletion: %+v, broken %q, %v", r, m.broken(), m.keys())
	}
	m.expire(3) // with the lock whose reaction has nothing to complain of
	if m.broken() != queue || len(recipes.Queue(m, queue)) != 2 || len(recipes.Queue(m, "_coord/rwlocks/other")) != 0 {
		t.Errorf("an expiry: broken %q, %v", m.broken(), m.keys())
	}
	must(t, m.Close())
	m.start(m.fs)
	m.restore()
	if m.broken() != queue {
		t.Errorf("opened again: broken %q", m.broken())
	}
	m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 2})
	if m.broken() != queue {
		t.Errorf("a revocation: broken %q", m.broken())
	}
	m.do(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: 1, Created: m.sessions[1].Created})
	if m.broken() != "" || len(m.keys()) != 0 {
		t.Errorf("with the last candidate gone: broken %q, %v", m.broken(), m.keys())
	}
	must(t, m.Close())
}

func encoded(t *testing.T, m proto.Message) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	must(t, err)
	return data
}
