package client

import "sync"

// notifier calls callbacks one after the other, on a goroutine that exists only while there are some: whoever has news
// does not wait for who wants to hear them.
type notifier struct {
	mu      sync.Mutex
	queue   []func()
	busy    bool
	running sync.WaitGroup
}

func newNotifier() *notifier { return &notifier{} }

func (t *notifier) notify(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, fn)
	if !t.busy {
		t.busy = true
		t.running.Go(t.run)
	}
}

func (t *notifier) run() {
	for {
		t.mu.Lock()
		queue := t.queue
		t.queue = nil
		t.busy = len(queue) > 0
		t.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, fn := range queue {
			fn()
		}
	}
}

// close waits for the callbacks that are due.
func (t *notifier) close() { t.running.Wait() }
