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

// read has a mirror read.
func (ms *Mirrors) read(m *queueMirror) {
	ms.work.Lock()
	defer ms.work.Unlock()
	ms.work.load = append(ms.work.load, m)
	ms.startLoader()
}

// recheck has a ticket that holds looked up.
func (ms *Mirrors) recheck(t *Ticket) {
	ms.work.Lock()
	defer ms.work.Unlock()
	ms.work.check = append(ms.work.check, t)
	ms.startLoader()
}

func (ms *Mirrors) startLoader() {
	if ms.work.loaders < maxLoaders && !ms.work.closed {
		ms.work.loaders++
		ms.running.Go(func() { guard.Loop(ms.ctx, ms.source.Logger, "queues", ms.loadAll) })
	}
}

// loadAll reads until there is nothing to read: what has gathered, from one view.
func (ms *Mirrors) loadAll() {
	for {
		load, check := ms.takeWork()
		if len(load) == 0 && len(check) == 0 {
			return
		}
		ms.loadSome(load, check)
	}
}

// loadSome reads from one view. Who waits for what was to be read is told if that fails, by a panic too.
func (ms *Mirrors) loadSome(load []*queueMirror, check []*Ticket) {
	defer guard.Recover(ms.source.Logger, "queues", func(cause any) { ms.failAll(load, check, guard.Status(cause)) })
	view, err := ms.source.View(ms.ctx)
	if err != nil {
		ms.failAll(load, check, err)
		return
	}
	defer view.Close()
	for _, m := range load {
		ms.loadOne(view, m)
	}
	for _, t := range check {
		ms.checkOne(view, t)
	}
}

// takeWork returns what is to be read; nothing ends the loader that asked.
func (ms *Mirrors) takeWork() (load []*queueMirror, check []*Ticket) {
	ms.work.Lock()
	defer ms.work.Unlock()
	if !ms.work.closed {
		load, check = ms.work.load, ms.work.check
	}
	ms.work.load, ms.work.check = nil, nil
	if len(load) == 0 && len(check) == 0 {
		ms.work.loaders--
	}
	return load, check
}

func (ms *Mirrors) failAll(load []*queueMirror, check []*Ticket, err error) {
	ms.source.Logger.Warn("read queues", zap.Error(err))
	for _, m := range load {
		m.fail(err)
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, t := range check {
		if t.state == holding {
			t.tell(Event{News: Failed, Token: t.token, Held: true, Err: err})
		}
	}
}

func (ms *Mirrors) loadOne(view View, m *queueMirror) {
	s, err := Read(ms.ctx, view, m.queue)
	if err != nil {
		ms.source.Logger.Warn("read a queue", zap.String("queue", m.queue), zap.Error(err))
		m.fail(fmt.Errorf("read the queue of %q: %w", layout.NameOf(m.queue), err))
		return
	}
	m.load(s, view.Revision())
	r := NewReader(ms.ctx, view)
	for _, key := range m.heldKeys() {
		if kv := r.Get([]byte(layout.AskKey(key))); kv != nil {
			m.asked(key, ask{recipes.ParseAsk(kv), kv.ModRevision})
		}
	}
}

// checkOne looks up a tracked holder. A view that is older than its grant says nothing.
func (ms *Mirrors) checkOne(view View, t *Ticket) {
	r := NewReader(ms.ctx, view)
	kv, note := r.Get([]byte(t.key)), r.Get([]byte(layout.AskKey(t.key)))
	queue, _ := layout.QueueOfKey(t.key)
	transfer := recipes.ParseTransfer(r.Get([]byte(layout.TransferKey(queue))))
	ms.mu.Lock()
	defer ms.mu.Unlock()
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
