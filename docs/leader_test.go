//go:build unix

package docs_test

import (
	"fmt"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// One worker works. When its process is killed another one does; of all the work in the order of the store, each term's stands
// together, behind that of smaller terms.
func TestExampleLeader(t *testing.T) {
	t.Parallel()
	endpoint, _ := startMember(t)
	ctx, _, etcd := connectTo(t, endpoint)
	workers := map[string]*process{}
	for i := range 3 {
		name := fmt.Sprint("worker-", i)
		workers[name] = start(t, endpoint, "leader", "-name", name, "-ttl", "1s")
		workers[name].hear(t, "waiting")
	}

	// The history of the work is one watch. next waits for a later term, of a worker that is not killed.
	work := history{leaders: map[int64]string{}, events: etcd.Watch(ctx, "progress", clientv3.WithRev(1))}
	next := func() string {
		for {
			last := work.term
			work.read(t)
			if leader := work.leaders[work.term]; work.term > last && workers[leader] != nil {
				return leader
			}
		}
	}
	for range 2 {
		leader := next()
		workers[leader].hear(t, fmt.Sprintf("leading in term %d$", work.term))
		workers[leader].signal(syscall.SIGKILL)
		delete(workers, leader)
	}
	leader := next()
	workers[leader].hear(t, "leading")
	workers[leader].signal(syscall.SIGTERM)
	workers[leader].hear(t, "ended")
	if code := workers[leader].ended(t); code != 0 {
		t.Errorf("the last leader ended with %d", code)
	}
	if _, err := etcd.Put(ctx, "progress", "0 end 0"); err != nil {
		t.Fatal(err)
	}
	for !work.ended {
		work.read(t)
	}
}

// history is the work that was done, in the order of the store.
type history struct {
	events  clientv3.WatchChan
	pending []*clientv3.Event
	term    int64            // of the last step
	leaders map[int64]string // by term
	ended   bool
}

// read reads one step and checks that it may follow the one before.
func (h *history) read(t *testing.T) {
	t.Helper()
	for len(h.pending) == 0 {
		resp, ok := <-h.events
		if !ok || resp.Err() != nil {
			t.Fatalf("the watch ended in term %d: %v", h.term, resp.Err())
		}
		h.pending = resp.Events
	}
	text := string(h.pending[0].Kv.Value)
	h.pending = h.pending[1:]
	var term int64
	var name string
	var step int
	if _, err := fmt.Sscanf(text, "%d %s %d", &term, &name, &step); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	switch {
	case term == 0:
		h.ended = true
	case term < h.term, h.leaders[term] != "" && h.leaders[term] != name:
		t.Fatalf("%q was done in term %d of %s", text, h.term, h.leaders[h.term])
	default:
		h.term, h.leaders[term] = term, name
	}
}
