package mirror

import (
	"errors"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"google.golang.org/protobuf/proto"
)

// TestBrokenQueueGrantsNobody: where what must follow from a deletion cannot be done, who held holds on, who waits is
// granted nothing, and the check of a grant, a snapshot and an observer say the same. Once it is mended whoever is next
// is granted at once.
func TestBrokenQueueGrantsNobody(t *testing.T) {
	semaphore := func(session int64) (coordv1.Kind, proto.Message) {
		return coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{Name: "a", Permits: 1, Limit: 2}
	}
	rwlock := func(session int64) (coordv1.Kind, proto.Message) {
		return coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Write: session != 2}
	}
	election := func(session int64) (coordv1.Kind, proto.Message) {
		return coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", Priority: 10 - session}
	}
	mends := map[string]func(f *fixture, q *brokenQueue){
		"who enters": func(f *fixture, q *brokenQueue) { q.enter(4) },
		"a deletion": func(f *fixture, q *brokenQueue) { f.member.Do(func(s *recipestest.Store) { s.Revoke(5) }) },
		"a resize": func(f *fixture, q *brokenQueue) {
			if q.kind == coordv1.QueueKind_QUEUE_SEMAPHORE {
				f.request(4, coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{Name: "a", Limit: 3},
					&coordv1.SemaphoreResized{})
			} else {
				q.enter(4)
			}
		},
	}
	for name, mend := range mends {
		for kind, request := range map[coordv1.QueueKind]func(int64) (coordv1.Kind, proto.Message){
			coordv1.QueueKind_QUEUE_SEMAPHORE: semaphore, coordv1.QueueKind_QUEUE_RWLOCK: rwlock,
			coordv1.QueueKind_QUEUE_PRIORITY_ELECTION: election,
		} {
			t.Run(kind.String()+", mended by "+name, func(t *testing.T) {
				f := start(t, 1, 2, 3, 4, 5)
				q := &brokenQueue{f, kind, layout.QueueOf(kind, "a"), request}
				q.enter(1)
				second, held := q.enter(2) // it holds beside the first one in a semaphore only
				holds := held.State == coordv1.AcquiredEntry_HOLDS
				if holds != (kind == coordv1.QueueKind_QUEUE_SEMAPHORE) {
					t.Fatalf("the second: %v", held)
				}
				third, waits := q.enter(3)
				q.enter(5)
				observer := f.mirrors.Observe(q.queue)
				defer observer.Close()
				f.member.Do(func(s *recipestest.Store) {
					s.Failing = errors.New("it cannot be written")
					s.Revoke(1)
					s.Failing = nil
				})
				second.quiet()
				third.quiet()
				q.check(held, waits, kind == coordv1.QueueKind_QUEUE_SEMAPHORE)
				mend(f, q)
				if kind != coordv1.QueueKind_QUEUE_SEMAPHORE {
					second.next(Granted)
					third.quiet()
					return
				}
				third.next(Granted)
				second.quiet()
			})
		}
	}
}

// brokenQueue is a queue and how to enter it.
type brokenQueue struct {
	*fixture
	kind    coordv1.QueueKind
	queue   string
	request func(session int64) (coordv1.Kind, proto.Message)
}

func (q *brokenQueue) enter(session int64) (*listener, *coordv1.AcquiredEntry) {
	q.Helper()
	kind, req := q.request(session)
	return q.fixture.enter(q.queue, session, kind, req)
}

// check compares what everybody says who is asked whether the entries hold.
func (q *brokenQueue) check(second, third *coordv1.AcquiredEntry, holds bool) {
	q.Helper()
	q.member.Do(func(s *recipestest.Store) {
		snapshot := recipes.Read(s, q.queue)
		for entry, want := range map[*coordv1.AcquiredEntry]bool{second: holds, third: false} {
			e, ok := snapshot.Entry(entry.Key)
			if !ok {
				q.Fatalf("%s is gone", entry.Key)
			}
			_, granted := snapshot.Granted(entry.Key)
			if checked := recipes.RuleOf(q.queue).Holds(s, q.queue, e, e.Token); checked != want || granted != want {
				q.Errorf("%s: the check of its grant says %v, a snapshot %v, want %v",
					entry.Key, checked, granted, want)
			}
		}
		if holder, ok := snapshot.Holder(); ok != holds || ok && holder.Key != second.Key {
			q.Errorf("holder: %v", holder)
		}
	})
	q.mirrors.mu.Lock()
	l := q.mirrors.mu.mirrors[q.queue]
	q.mirrors.mu.Unlock()
	<-l.ready // it is read on a goroutine of its own
	l.mu.Lock()
	defer l.mu.Unlock()
	if holder := l.holder(); (holder.Key != "") != holds || holds && holder.Key != second.Key {
		q.Errorf("who looks on sees %v hold", holder)
	}
}
