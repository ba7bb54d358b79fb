package recipes_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// failing is the reactor, which fails when it is told to.
type failing struct {
	statemachine.Reactor
	fails *bool
}

func (f failing) Deleted(s statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	if *f.fails {
		return errors.New("it fails")
	}
	return f.Reactor.Deleted(s, queue, were)
}

// TestWhoEntersMendsTheQueue: what a reaction could not do is done before somebody enters, who then holds if there is
// room.
func TestWhoEntersMendsTheQueue(t *testing.T) {
	for _, c := range []struct {
		queue string
		kind  coordv1.Kind
		body  proto.Message
		holds bool // the second of two, when the first has gone
	}{
		{"_coord/semaphores/x", coordv1.Kind_KIND_SEMAPHORE_ACQUIRE,
			&coordv1.SemaphoreAcquire{Name: "x", Permits: 1, Limit: 1}, true},
		{"_coord/rwlocks/x", coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "x", Write: true}, true},
		{"_coord/barriers/x", coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "x", Parties: 3}, false},
		{"_coord/elections/x", coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "x", Priority: 5}, true},
	} {
		for _, others := range []int64{1, 2} {
			m, fails := &testMachine{
				T: t, sessions: map[int64]statemachine.SessionOpened{}, fs: vfs.NewCrashableMem(),
			}, false
			program := recipes.Program()
			program.Reactor = failing{program.Reactor, &fails}
			m.Machine = machine.New(machine.Options{
				Dir: "db", FS: m.fs, Shard: 1, Member: 1, Boot: 1, Observer: m, Program: program,
			})
			_, err := m.Open(nil)
			must(t, err)
			for id := int64(1); id <= 3; id++ {
				m.open(id)
			}
			for id := int64(1); id <= others; id++ {
				m.request(id, 1, c.kind, encoded(t, c.body), 1)
			}
			fails = true
			m.expire(1)
			fails = false
			if m.broken() != c.queue {
				t.Fatalf("%s: broken %q", c.queue, m.broken())
			}
			out, refused := m.request(3, 1, c.kind, encoded(t, c.body), 1)
			entered := &coordv1.Acquired{}
			must(t, proto.Unmarshal(out, entered))
			if refused != "" || m.broken() != "" || len(entered.Entries) != 1 {
				t.Fatalf("%s, others %d: enters %v, refused %q, broken %q", c.queue, others, entered, refused,
					m.broken())
			}
			mine := entered.Entries[0]
			if holds := mine.State == coordv1.AcquiredEntry_HOLDS; holds != (c.holds && others == 1) {
				t.Errorf("%s, others %d: entered %v", c.queue, others, entered)
			}
			if other, ok := recipes.Read(m, c.queue).Holder(); c.holds && (!ok || other.Lease != 4-others) {
				t.Errorf("%s, others %d: %+v holds", c.queue, others, other)
			}
			if e, ok := recipes.Read(m, c.queue).Entry(mine.Key); !ok ||
				c.holds && others == 2 && e.Token != mine.Token {
				t.Errorf("%s, others %d: entry %+v, its owner was told %v", c.queue, others, e, mine)
			}
			must(t, m.Close())
		}
	}
}
