package registry

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	recipesvc "github.com/coord-dev/coord/coord/internal/recipesvc"
	"github.com/coord-dev/coord/coord/internal/watch"
	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member that the registry's services run on. All fields are required but for what a service does not
// use.
type Backend struct {
	// View is the latest state of this member's store.
	View func(ctx context.Context) (View, error)
	// Subscribe is watch.Hub.Subscribe, for whom ctx says.
	Subscribe func(ctx context.Context, key, end []byte, fn func(watch.Delivery)) (statemachine.Revision, func(), error)
	// Propose sends a command through the log and waits for its result. Only the prober writes.
	Propose recipesvc.Propose
	// Leads reports whether this member leads. Only the prober asks.
	Leads  func() bool
	Logger *zap.Logger
}

// View is a *machine.View.
type View interface {
	Close()
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
}

// mirror is this member's copy of the registry while run runs.
type mirror struct {
	backend *Backend
	changed func([]instances.Name) // called on run's goroutine, the mutex not held, behind each change

	// mu guards set, which run alone changes; what it returns is shared and nobody changes it.
	mu  sync.RWMutex
	set *instances.Set
}

func newMirror(b *Backend, changed func([]instances.Name)) *mirror {
	return &mirror{backend: b, changed: changed, set: instances.NewSet(instances.Limits{}, "")}
}

// retryAfter is the wait after something failed that should not.
const retryAfter = 200 * time.Millisecond

// run keeps the copy up until ctx ends.
func (m *mirror) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.follow(ctx); err != nil && ctx.Err() == nil {
			m.backend.Logger.Warn("following the service registry", zap.Error(err))
			sleep(ctx, retryAfter)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow subscribes first and reads then, so that nothing falls between. It ends when events are missing.
func (m *mirror) follow(ctx context.Context) error {
	box := &mailbox{signal: make(chan struct{}, 1)}
	end := clientv3.GetPrefixRangeEnd(layout.Service.Dir())
	_, cancel, err := m.backend.Subscribe(ctx, []byte(layout.Service.Dir()), []byte(end), box.post)
	if err != nil {
		return err
	}
	defer cancel()
	read, err := m.read(ctx, end)
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at, timed := m.deadline()
		timer.Stop()
		if timed {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-timer.C:
			m.apply(func() { m.set.Review(now) })
		case <-box.signal:
			if !m.take(box.take(), read) {
				return nil
			}
		}
	}
}

func (m *mirror) deadline() (at time.Time, timed bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.set.Deadline()
}

func (m *mirror) get(name instances.Name) *instances.Instance {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.set.Get(name)
}

// read replaces the copy by what is there, and returns its revision.
func (m *mirror) read(ctx context.Context, end string) (statemachine.Revision, error) {
	view, err := m.backend.View(ctx)
	if err != nil {
		return 0, err
	}
	defer view.Close()
	resp, err := view.Range(ctx, &pb.RangeRequest{Key: []byte(layout.Service.Dir()), RangeEnd: []byte(end)})
	if err != nil {
		return 0, err
	}
	m.apply(func() { m.set.Replace(time.Now(), resp.Kvs) })
	return resp.Header.Revision, nil
}

// take takes what comes after a revision that was read; false if some is missing.
func (m *mirror) take(deliveries []watch.Delivery, read statemachine.Revision) bool {
	var events []*mvccpb.Event
	for _, d := range deliveries {
		if d.Revision <= read {
			continue
		}
		if d.Gap {
			return false
		}
		for _, ev := range d.Events {
			events = append(events, &mvccpb.Event{Type: ev.Type, Kv: ev.Kv})
		}
	}
	m.apply(func() { m.set.Apply(time.Now(), events) })
	return true
}

// apply changes the copy and tells of it.
func (m *mirror) apply(fn func()) {
	if touched := m.applyLocked(fn); len(touched) > 0 {
		m.changed(touched)
	}
}

// applyLocked leaves the copy unlocked even where fn panics; then the next read replaces all of it.
func (m *mirror) applyLocked(fn func()) []instances.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
	return m.set.Touched()
}

// mailbox takes deliveries without blocking the hub.
type mailbox struct {
	signal chan struct{}

	mu         sync.Mutex
	deliveries []watch.Delivery
}

func (b *mailbox) post(d watch.Delivery) {
	b.mu.Lock()
	b.deliveries = append(b.deliveries, d)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []watch.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.deliveries
	b.deliveries = nil
	return all
}
