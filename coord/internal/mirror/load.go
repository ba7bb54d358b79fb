package mirror

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
)

// maxLoaders is how many goroutines read at most.
const maxLoaders = 2

// read has a line read.
func (ls *Lines) read(l *line) {
	ls.work.Lock()
	defer ls.work.Unlock()
	ls.work.load = append(ls.work.load, l)
	ls.startLoader()
}

// recheck has a ticket that holds looked up.
func (ls *Lines) recheck(t *Ticket) {
	ls.work.Lock()
	defer ls.work.Unlock()
	ls.work.check = append(ls.work.check, t)
	ls.startLoader()
}

func (ls *Lines) startLoader() {
	if ls.work.loaders < maxLoaders && !ls.work.closed {
		ls.work.loaders++
		ls.running.Go(func() { guard.Loop(ls.ctx, ls.source.Logger, "queues", ls.loadAll) })
	}
}

// loadAll reads until there is nothing to read: what has gathered, from one view.
func (ls *Lines) loadAll() {
	for {
		load, check := ls.takeWork()
		if len(load) == 0 && len(check) == 0 {
			return
		}
		ls.loadSome(load, check)
	}
}

// loadSome reads from one view. Who waits for what was to be read is told if that fails, by a panic too.
func (ls *Lines) loadSome(load []*line, check []*Ticket) {
	defer guard.Recover(ls.source.Logger, "queues", func(cause any) { ls.failAll(load, check, guard.Status(cause)) })
	view, err := ls.source.View(ls.ctx)
	if err != nil {
		ls.failAll(load, check, err)
		return
	}
	defer view.Close()
	for _, l := range load {
		ls.loadOne(view, l)
	}
	for _, t := range check {
		ls.checkOne(view, t)
	}
}

// takeWork returns what is to be read; nothing ends the loader that asked.
func (ls *Lines) takeWork() (load []*line, check []*Ticket) {
	ls.work.Lock()
	defer ls.work.Unlock()
	if !ls.work.closed {
		load, check = ls.work.load, ls.work.check
	}
	ls.work.load, ls.work.check = nil, nil
	if len(load) == 0 && len(check) == 0 {
		ls.work.loaders--
	}
	return load, check
}

func (ls *Lines) failAll(load []*line, check []*Ticket, err error) {
	ls.source.Logger.Warn("read queues", zap.Error(err))
	for _, l := range load {
		l.fail(err)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, t := range check {
		if t.state == holding {
			t.tell(Event{News: Failed, Token: t.token, Held: true, Err: err})
		}
	}
}

func (ls *Lines) loadOne(view View, l *line) {
	s, err := Read(ls.ctx, view, l.queue)
	if err != nil {
		ls.source.Logger.Warn("read a queue", zap.String("queue", l.queue), zap.Error(err))
		l.fail(fmt.Errorf("read the queue of %q: %w", layout.NameOf(l.queue), err))
		return
	}
	l.load(s, view.Revision())
	r := NewReader(ls.ctx, view)
	for _, key := range l.heldKeys() {
		if kv := r.Get([]byte(layout.AskKey(key))); kv != nil {
			l.asked(key, ask{recipes.ParseAsk(kv), kv.ModRevision})
		}
	}
}

// checkOne looks up a tracked holder. A view that is older than its grant says nothing.
func (ls *Lines) checkOne(view View, t *Ticket) {
	r := NewReader(ls.ctx, view)
	kv, note := r.Get([]byte(t.key)), r.Get([]byte(layout.AskKey(t.key)))
	queue, _ := layout.QueueOfKey(t.key)
	transfer := recipes.ParseTransfer(r.Get([]byte(layout.TransferKey(queue))))
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch {
	case t.state != holding, view.Revision() < t.token:
		return
	case r.Err != nil:
		t.tell(Event{News: Failed, Token: t.token, Held: true, Err: r.Err})
		return
	}
	if kv != nil && kv.CreateRevision <= t.token && kv.Lease == t.lease {
		if note != nil {
			t.ask(ask{recipes.ParseAsk(note), note.ModRevision})
		}
		return
	}
	t.gone, t.transferred = view.Revision(), transfer.GetFrom() == t.key && transfer.GetFromToken() == t.token
	t.judge()
}
