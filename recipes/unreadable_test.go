package recipes_test

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// enters has a session ask for an entry, and returns what it was told.
func (m *testMachine) enters(
	session int64, sequence uint64, kind coordv1.Kind, body proto.Message,
) (*coordv1.AcquiredEntry, string) {
	m.Helper()
	out, refused := m.request(session, sequence, kind, encoded(m.T, body), 1)
	entered := &coordv1.Acquired{}
	must(m.T, proto.Unmarshal(out, entered))
	if refused != "" {
		return nil, refused
	}
	return entered.Entries[0], ""
}

// TestUnreadableCounts: where a fault has left what is no record of counts, nobody is let in beside who holds, whoever
// comes next or goes: who is there is counted anew.
func TestUnreadableCounts(t *testing.T) {
	for _, c := range []struct {
		queue string
		kind  coordv1.Kind
		body  proto.Message
	}{
		{"_coord/semaphores/x", coordv1.Kind_KIND_SEMAPHORE_ACQUIRE,
			&coordv1.SemaphoreAcquire{Name: "x", Permits: 2, Limit: 2}},
		{"_coord/rwlocks/x", coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "x", Write: true}},
	} {
		for _, goes := range []bool{false, true} {
			m := newMachine(t)
			for id := int64(1); id <= 4; id++ {
				m.open(id)
			}
			if e, refused := m.enters(1, 1, c.kind, c.body); refused != "" || e.State != coordv1.AcquiredEntry_HOLDS {
				t.Fatalf("%s: %v %s", c.queue, e, refused)
			}
			if e, refused := m.enters(2, 1, c.kind, c.body); refused != "" || e.State != coordv1.AcquiredEntry_WAITS {
				t.Fatalf("%s: %v %s", c.queue, e, refused)
			}
			m.put(&pb.PutRequest{Key: []byte(c.queue + "/tally"), Value: []byte("\xff")})
			if goes {
				m.expire(2)
			}
			if e, refused := m.enters(3, 1, c.kind, c.body); refused != "" || e.State != coordv1.AcquiredEntry_WAITS {
				t.Errorf("%s, somebody went: %t: who came is told %v %s", c.queue, goes, e, refused)
			}
			if e, ok := recipes.Read(m, c.queue).Holder(); !ok || e.Lease != 1 {
				t.Errorf("%s, somebody went: %t: %+v holds", c.queue, goes, e)
			}
			m.expire(1)
			if e, ok := recipes.Read(m, c.queue).Holder(); !ok || e.Lease == 1 ||
				len(recipes.Read(m, c.queue).Holders()) != 1 {
				t.Errorf("%s, somebody went: %t: then %+v holds", c.queue, goes, e)
			}
			must(t, m.Close())
		}
	}
}

// TestUnreadableLimitAndBarrier: who meets them is refused by the name of the key, and told what to do, which helps the
// semaphore.
func TestUnreadableLimitAndBarrier(t *testing.T) {
	m := newMachine(t)
	m.open(1)
	m.open(2)
	semaphore, barrier := &coordv1.SemaphoreAcquire{Name: "x", Permits: 1, Limit: 2},
		&coordv1.BarrierEnter{Name: "x", Parties: 2}
	if e, refused := m.enters(1, 1, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, semaphore); refused != "" {
		t.Fatal(e, refused)
	}
	for _, key := range []string{"_coord/semaphores/x/limit", "_coord/barriers/x/state"} {
		m.put(&pb.PutRequest{Key: []byte(key), Value: []byte("\xff")})
	}
	if e, refused := m.enters(2, 1, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, semaphore); !strings.Contains(refused, `"_coord/semaphores/x/limit" is no limit: resize`) {
		t.Errorf("the semaphore: %v %s", e, refused)
	}
	if e, refused := m.enters(2, 2, coordv1.Kind_KIND_BARRIER_ENTER, barrier); !strings.Contains(refused, `"_coord/barriers/x/state" is no barrier: delete`) {
		t.Errorf("the barrier: %v %s", e, refused)
	}
	if _, refused := m.request(2, 3, coordv1.Kind_KIND_SEMAPHORE_RESIZE,
		encoded(t, &coordv1.SemaphoreResize{Name: "x", Limit: 2}), 1); refused != "" {
		t.Errorf("resized: %s", refused)
	}
	if e, refused := m.enters(2, 4, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, semaphore); refused != "" ||
		e.State != coordv1.AcquiredEntry_HOLDS {
		t.Errorf("the semaphore with a limit: %v %s", e, refused)
	}
	must(t, m.Close())
}
