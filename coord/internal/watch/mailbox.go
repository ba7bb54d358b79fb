package watch

import (
	"sync"

	"github.com/coord-dev/coord/statemachine"
)

// mailbox is the hub's queue of tasks, run in order by the hub goroutine. Posting never blocks.
type mailbox struct {
	limit int // bytes of events

	mu     sync.Mutex
	tasks  []task
	bytes  int
	closed bool
	wake   chan struct{} // holds a token while there may be something to take
}

// task is run, and lost says what is missed where that fails; or, where run is nil, a loss: events up to lost.revision
// were dropped.
type task struct {
	run  func()
	cost int
	lost loss
}

// loss says that commits up to revision will not come as events.
type loss struct{ revision, compacted statemachine.Revision }

func newMailbox(limit int) *mailbox {
	return &mailbox{limit: limit, wake: make(chan struct{}, 1)}
}

// post appends a task and reports false if the mailbox is closed.
func (m *mailbox) post(run func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.append(task{run: run})
}

// postCommits appends a task that holds cost bytes of events. If there is no room it records the loss instead, and
// reports that.
func (m *mailbox) postCommits(cost int, l loss, run func()) (lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	// One batch always fits into an empty mailbox, whatever its size.
	if m.bytes == 0 || m.bytes+cost <= m.limit {
		m.bytes += cost
		m.append(task{run: run, cost: cost, lost: l})
		return false
	}
	if n := len(m.tasks); n > 0 && m.tasks[n-1].run == nil {
		m.tasks[n-1].lost = l // one loss tells it all
		return true
	}
	m.append(task{lost: l})
	return true
}

func (m *mailbox) append(t task) bool {
	if m.closed {
		return false
	}
	m.tasks = append(m.tasks, t)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns all tasks, and whether the mailbox is still open. spare is memory for the next ones.
func (m *mailbox) take(spare []task) ([]task, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.tasks
	m.tasks = spare[:0]
	return taken, !m.closed
}

// free gives back the bytes of a task that has been run.
func (m *mailbox) free(cost int) {
	m.mu.Lock()
	m.bytes -= cost
	m.mu.Unlock()
}

// close drops what is queued.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.tasks = true, nil
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
