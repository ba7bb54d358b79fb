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

// Source is the member behind the lines. All functions are safe for concurrent use.
type Source struct {
	// View is a consistent view at the latest revision. The caller closes it.
	View func(ctx context.Context) (View, error)
	// Subscribe calls fn for all changes in [key, end) after the returned revision, in order, until cancel is called; a
	// last call may be under way then. A View taken after Subscribe returned, or in answer to a delivery, is not older than
	// the returned revision or the delivery. fn does not block.
	Subscribe func(ctx context.Context, key, end []byte, fn func(Delivery)) (revision statemachine.Revision, cancel func(), err error)
	Logger    *zap.Logger
}

// Delivery is what a subscriber gets: the events of one revision, or the notice that some may be missing up to Revision,
// after which the state must be read anew.
type Delivery struct {
	Revision statemachine.Revision
	Events   []statemachine.Event
	Gap      bool
}

// Lines is what this member knows of the queues that somebody on it is interested in. Safe for concurrent use.
type Lines struct {
	source  Source
	ctx     context.Context
	cancel  context.CancelFunc
	unwatch func()
	running sync.WaitGroup

	touched []*line // by the delivery; of the hub's goroutine

	mu struct {
		sync.Mutex
		closed  bool
		lines   map[string]*line   // by queue
		tracked map[string]*Ticket // by key: a chain of those that are in no line
	}
	work struct {
		sync.Mutex
		closed  bool
		load    []*line   // to be read
		check   []*Ticket // to be looked up
		loaders int       // goroutines that read
	}
}

// New subscribes. The caller closes it after whoever has tickets.
func New(source Source) (*Lines, error) {
	ls := &Lines{source: source}
	ls.ctx, ls.cancel = context.WithCancel(principal.Member(context.Background())) // many share a mirror
	ls.mu.lines, ls.mu.tracked = map[string]*line{}, map[string]*Ticket{}
	_, unwatch, err := source.Subscribe(ls.ctx, []byte{0}, []byte{0}, ls.deliver) // all keys
	if err != nil {
		ls.cancel()
		return nil, err
	}
	ls.unwatch = unwatch
	return ls, nil
}

// Close ends the subscription, tells those who wait, and returns when nothing is read any more. It can be called twice.
func (ls *Lines) Close() {
	ls.mu.Lock()
	ls.mu.closed = true
	for _, l := range ls.mu.lines {
		l.fail(ErrClosed)
	}
	ls.mu.Unlock()
	ls.unwatch()
	ls.cancel()
	ls.work.Lock()
	ls.work.closed = true
	ls.work.Unlock()
	ls.running.Wait()
}

// deliver takes the next change from the hub.
func (ls *Lines) deliver(d Delivery) {
	if d.Gap {
		ls.gap(d)
		return
	}
	ls.dispatch(d)
	for i, l := range ls.touched {
		l.deliver(Delivery{Revision: d.Revision, Events: l.inbox})
		l.inbox, ls.touched[i] = nil, nil
	}
	ls.touched = ls.touched[:0]
}

// dispatch tells tracked tickets, and sorts out the events of lines.
func (ls *Lines) dispatch(d Delivery) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.mu.lines) == 0 && len(ls.mu.tracked) == 0 {
		return
	}
	var left map[string]bool // the keys of leaders that a transfer has removed
	for _, ev := range d.Events {
		if !bytes.HasPrefix(ev.Kv.Key, reserved) {
			continue
		}
		if entry, ok := layout.AskedEntry(string(ev.Kv.Key)); ok {
			ls.asked(entry, ev)
		} else if queue, ok := layout.TransferredQueue(string(ev.Kv.Key)); ok && ev.Type == mvccpb.Event_PUT {
			if left == nil {
				left = map[string]bool{}
			}
			left[recipes.ParseTransfer(ev.Kv).GetFrom()] = true
			ls.touch([]byte(queue), ev)
		}
	}
	for _, ev := range d.Events {
		for t := ls.mu.tracked[string(ev.Kv.Key)]; t != nil; t = t.next {
			t.changed(ev, left[string(ev.Kv.Key)])
		}
		if i := bytes.LastIndexByte(ev.Kv.Key, '/'); i > 0 {
			ls.touch(ev.Kv.Key[:i], ev)
		}
	}
}

var reserved = []byte(layout.Reserved)

// touch hands an event to the line of a queue, if there is one.
func (ls *Lines) touch(queue []byte, ev statemachine.Event) {
	l := ls.mu.lines[string(queue)]
	if l == nil {
		return
	}
	if len(l.inbox) == 0 {
		ls.touched = append(ls.touched, l)
	}
	l.inbox = append(l.inbox, ev)
}

// asked tells the holder of an entry that somebody asks it to release.
func (ls *Lines) asked(entry string, ev statemachine.Event) {
	if ev.Type != mvccpb.Event_PUT {
		return
	}
	a := ask{Ask: recipes.ParseAsk(ev.Kv), revision: ev.Kv.ModRevision}
	for t := ls.mu.tracked[entry]; t != nil; t = t.next {
		t.ask(a)
	}
	queue, _ := layout.QueueOfKey(entry)
	if l := ls.mu.lines[queue]; l != nil {
		// Its key is not one of the queue's, so it comes with the event of this revision in its stead.
		ls.touch([]byte(queue), ev)
	}
}

// gap has everything read again that somebody is interested in.
func (ls *Lines) gap(d Delivery) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.mu.lines {
		l.deliver(d)
	}
	for _, t := range ls.mu.tracked {
		for ; t != nil; t = t.next {
			if t.missed = true; t.state == holding {
				ls.recheck(t)
			}
		}
	}
}

// open returns the line of a queue, and makes it where there is none. The caller holds mu.
func (ls *Lines) open(queue string) *line {
	l := ls.mu.lines[queue]
	if l == nil || l.failed() {
		l = newLine(queue, ls.read)
		ls.mu.lines[queue] = l
		if ls.mu.closed {
			l.fail(ErrClosed)
		} else {
			ls.read(l)
		}
	}
	l.users++
	return l
}

// leave counts a user of a line that open returned.
func (ls *Lines) leave(l *line) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.users--
	if l.users == 0 && ls.mu.lines[l.queue] == l {
		delete(ls.mu.lines, l.queue)
	}
}
