package mirror

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// ErrClosed is what tickets are told when the member stops.
var ErrClosed = errors.New("the member is stopping: repeat the request")

// Source is the member behind the mirrors. All functions are safe for concurrent use.
type Source struct {
	// View is a consistent view at the latest revision. The caller closes it.
	View func(ctx context.Context) (View, error)
	// Subscribe calls fn for all changes in [key, end) after the returned revision, in order, until cancel is called; a
	// last call may be under way then. A View taken after Subscribe returned, or in answer to a delivery, is not older
	// than the returned revision or the delivery. fn does not block.
	Subscribe func(ctx context.Context, key, end []byte,
		fn func(Delivery)) (revision statemachine.Revision, cancel func(), err error)
	Logger *zap.Logger
}

// Delivery is what a subscriber gets: the events of one revision, or the notice that some may be missing up to
// Revision, after which the state must be read anew.
type Delivery struct {
	Revision statemachine.Revision
	Events   []statemachine.Event
	Gap      bool
}

// Mirrors is what this member knows of the queues that somebody on it is interested in. Safe for concurrent use.
type Mirrors struct {
	source  Source
	ctx     context.Context
	cancel  context.CancelFunc
	unwatch func()
	running sync.WaitGroup

	touched []*queueMirror // by the delivery; of the hub's goroutine

	mu struct {
		sync.Mutex
		closed  bool
		mirrors map[string]*queueMirror // by queue
		tracked map[string]*Ticket      // by key: a chain of those that are in no mirror
	}
	work struct {
		sync.Mutex
		closed  bool
		load    []*queueMirror // to be read
		check   []*Ticket      // to be looked up
		loaders int            // goroutines that read
	}
}

// New subscribes. The caller closes it after whoever has tickets.
func New(source Source) (*Mirrors, error) {
	ms := &Mirrors{source: source}
	ms.ctx, ms.cancel = context.WithCancel(principal.Member(context.Background())) // many share a mirror
	ms.mu.mirrors, ms.mu.tracked = map[string]*queueMirror{}, map[string]*Ticket{}
	_, unwatch, err := source.Subscribe(ms.ctx, []byte{0}, []byte{0}, ms.deliver) // all keys
	if err != nil {
		ms.cancel()
		return nil, err
	}
	ms.unwatch = unwatch
	return ms, nil
}

// Close ends the subscription, tells those who wait, and returns when nothing is read any more. It can be called twice.
func (ms *Mirrors) Close() {
	ms.mu.Lock()
	ms.mu.closed = true
	for _, m := range ms.mu.mirrors {
		m.fail(ErrClosed)
	}
	ms.mu.Unlock()
	ms.unwatch()
	ms.cancel()
	ms.work.Lock()
	ms.work.closed = true
	ms.work.Unlock()
	ms.running.Wait()
}

// deliver takes the next change from the hub.
func (ms *Mirrors) deliver(d Delivery) {
	if d.Gap {
		ms.gap(d)
		return
	}
	ms.dispatch(d)
	for i, m := range ms.touched {
		m.deliver(Delivery{Revision: d.Revision, Events: m.inbox})
		m.inbox, ms.touched[i] = nil, nil
	}
	ms.touched = ms.touched[:0]
}

// dispatch tells tracked tickets, and sorts out the events of mirrors.
func (ms *Mirrors) dispatch(d Delivery) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if len(ms.mu.mirrors) == 0 && len(ms.mu.tracked) == 0 {
		return
	}
	var left map[string]bool // the keys of leaders that a transfer has removed
	for _, ev := range d.Events {
		if !bytes.HasPrefix(ev.Kv.Key, reserved) {
			continue
		}
		if entry, ok := layout.AskedEntry(string(ev.Kv.Key)); ok {
			ms.asked(entry, ev)
		} else if queue, ok := layout.TransferredQueue(string(ev.Kv.Key)); ok && ev.Type == mvccpb.Event_PUT {
			if left == nil {
				left = map[string]bool{}
			}
			left[recipes.ParseTransfer(ev.Kv).GetFrom()] = true
			ms.touch([]byte(queue), ev)
		}
	}
	for _, ev := range d.Events {
		for t := ms.mu.tracked[string(ev.Kv.Key)]; t != nil; t = t.next {
			t.changed(ev, left[string(ev.Kv.Key)])
		}
		if i := bytes.LastIndexByte(ev.Kv.Key, '/'); i > 0 {
			ms.touch(ev.Kv.Key[:i], ev)
		}
	}
}

var reserved = []byte(layout.Reserved)

// touch hands an event to the mirror of a queue, if there is one.
func (ms *Mirrors) touch(queue []byte, ev statemachine.Event) {
	m := ms.mu.mirrors[string(queue)]
	if m == nil {
		return
	}
	if len(m.inbox) == 0 {
		ms.touched = append(ms.touched, m)
	}
	m.inbox = append(m.inbox, ev)
}

// asked tells the holder of an entry that somebody asks it to release.
func (ms *Mirrors) asked(entry string, ev statemachine.Event) {
	if ev.Type != mvccpb.Event_PUT {
		return
	}
	a := ask{Ask: recipes.ParseAsk(ev.Kv), revision: ev.Kv.ModRevision}
	for t := ms.mu.tracked[entry]; t != nil; t = t.next {
		t.ask(a)
	}
	queue, _ := layout.QueueOfKey(entry)
	if m := ms.mu.mirrors[queue]; m != nil {
		// Its key is not one of the queue's, so it comes with the event of this revision in its stead.
		ms.touch([]byte(queue), ev)
	}
}

// gap has everything read again that somebody is interested in.
func (ms *Mirrors) gap(d Delivery) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.mu.mirrors {
		m.deliver(d)
	}
	for _, t := range ms.mu.tracked {
		for ; t != nil; t = t.next {
			if t.missed = true; t.state == holding {
				ms.recheck(t)
			}
		}
	}
}

// open returns the mirror of a queue, and makes it where there is none. The caller holds mu.
func (ms *Mirrors) open(queue string) *queueMirror {
	m := ms.mu.mirrors[queue]
	if m == nil || m.failed() {
		m = newQueueMirror(queue, ms.read)
		ms.mu.mirrors[queue] = m
		if ms.mu.closed {
			m.fail(ErrClosed)
		} else {
			ms.read(m)
		}
	}
	m.users++
	return m
}

// leave counts a user of a mirror that open returned.
func (ms *Mirrors) leave(m *queueMirror) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.users--
	if m.users == 0 && ms.mu.mirrors[m.queue] == m {
		delete(ms.mu.mirrors, m.queue)
	}
}
