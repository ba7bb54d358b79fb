package client

import "sync"

// teller calls callbacks one after the other, on a goroutine that exists only while there are some: whoever has news does
// not wait for who wants to hear them.
type teller struct {
	mu      sync.Mutex
	queue   []func()
	busy    bool
	running sync.WaitGroup
}

func newTeller() *teller { return &teller{} }

func (t *teller) tell(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, fn)
	if !t.busy {
		t.busy = true
		t.running.Go(t.run)
	}
}

func (t *teller) run() {
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
func (t *teller) close() { t.running.Wait() }
