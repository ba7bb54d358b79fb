package difftest

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// everyWatch is the watch id of a progress notification for all watches of a stream, and of a refused watch.
	everyWatch = -1
	// progressRetry is how often a progress request is repeated: a server may drop it while a watcher is behind.
	progressRetry = 10 * time.Millisecond
)

// watchLog is one watch stream to one server, and everything that came out of it.
//
// Its lists are filled by one reader goroutine, which ends when close cancels the stream; close waits for it.
type watchLog struct {
	target *target
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		changed chan struct{}
		// control holds the created and canceled answers of the stream in order.
		control []*pb.WatchResponse
		// items holds for each watch its answers and its events (as *mvccpb.Event) in order.
		items map[int64][]proto.Message
		// progressRev is the revision of the last notification for all watches, progressCount their number.
		progressRev, progressCount int64
		// creating holds the create requests without an answer, watches the rules of each live watch.
		creating []*pb.WatchCreateRequest
		watches  map[int64]*watchRules
		// fragmented holds the id of a watch for each first fragment.
		fragmented []int64
		violations []string
		err        error
	}
}

// watchRules is what the rules of one watch need to remember.
type watchRules struct {
	req *pb.WatchCreateRequest
	// lastRev is the last event's revision, progress the highest revision announced as complete.
	lastRev, progress int64
	inFragment        bool
	notified          int
}

func openWatch(t *target, requireLeader bool) (*watchLog, error) {
	ctx, cancel := context.WithCancel(withLeader(context.Background(), requireLeader))
	stream, err := pb.NewWatchClient(t.conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: open watch stream: %w", t.name, err)
	}
	w := &watchLog{target: t, stream: stream, cancel: cancel, done: make(chan struct{})}
	w.mu.changed = make(chan struct{})
	w.mu.items = map[int64][]proto.Message{}
	w.mu.watches = map[int64]*watchRules{}
	go w.read()
	return w, nil
}

func (w *watchLog) close() {
	w.cancel()
	<-w.done
}

func (w *watchLog) read() {
	defer close(w.done)
	for {
		resp, err := w.stream.Recv()
		w.mu.Lock()
		if err != nil {
			w.mu.err = err
		} else {
			w.record(resp)
		}
		close(w.mu.changed)
		w.mu.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// record files resp and checks the rules that hold on every stream. The lock is held.
func (w *watchLog) record(resp *pb.WatchResponse) {
	switch {
	case resp.Created || resp.Canceled:
		w.recordControl(resp)
	case len(resp.Events) > 0:
		w.recordEvents(resp)
	case resp.WatchId == everyWatch:
		w.mu.progressRev, w.mu.progressCount = resp.Header.GetRevision(), w.mu.progressCount+1
		for _, r := range w.mu.watches {
			r.progress = max(r.progress, resp.Header.GetRevision())
		}
	default:
		w.recordNotification(resp)
	}
}

func (w *watchLog) recordControl(resp *pb.WatchResponse) {
	w.mu.control = append(w.mu.control, resp)
	w.mu.items[resp.WatchId] = append(w.mu.items[resp.WatchId], resp)
	if len(resp.Events) > 0 {
		w.violate(resp, "events in a control answer")
	}
	if resp.Canceled {
		delete(w.mu.watches, resp.WatchId)
	}
	if !resp.Created {
		return
	}
	if len(w.mu.creating) == 0 {
		w.violate(resp, "created without a request")
		return
	}
	if !resp.Canceled {
		w.mu.watches[resp.WatchId] = &watchRules{req: w.mu.creating[0]}
	}
	w.mu.creating = w.mu.creating[1:]
}

func (w *watchLog) recordEvents(resp *pb.WatchResponse) {
	r := w.rules(resp)
	if resp.Fragment && !r.req.Fragment {
		w.violate(resp, "a fragment nobody asked for")
	}
	first, last := resp.Events[0].Kv.GetModRevision(), resp.Events[len(resp.Events)-1].Kv.GetModRevision()
	if first == r.lastRev && !r.inFragment {
		w.violate(resp, "one revision split over two responses")
	}
	for _, ev := range resp.Events {
		rev := ev.Kv.GetModRevision()
		switch {
		case rev < r.lastRev:
			w.violate(resp, "events out of order")
		case rev <= r.progress:
			w.violate(resp, fmt.Sprintf("event at or before announced progress %d", r.progress))
		case rev < r.req.StartRevision:
			w.violate(resp, "event before the start revision")
		}
		r.lastRev = rev
		w.mu.items[resp.WatchId] = append(w.mu.items[resp.WatchId], ev)
	}
	if resp.Header.GetRevision() < last {
		w.violate(resp, "header revision before the last event")
	}
	if resp.Fragment && !r.inFragment {
		w.mu.fragmented = append(w.mu.fragmented, resp.WatchId)
	}
	r.inFragment = resp.Fragment
}

func (w *watchLog) recordNotification(resp *pb.WatchResponse) {
	r := w.rules(resp)
	if !r.req.ProgressNotify {
		w.violate(resp, "an empty response nobody asked for")
	}
	if rev := resp.Header.GetRevision(); rev < r.req.StartRevision || rev < r.lastRev {
		w.violate(resp, "notification before the start revision or the last event")
	}
	r.progress = max(r.progress, resp.Header.GetRevision())
	r.notified++
}

func (w *watchLog) rules(resp *pb.WatchResponse) *watchRules {
	r := w.mu.watches[resp.WatchId]
	if r == nil {
		w.violate(resp, "response for a watch that does not exist")
		r = &watchRules{req: &pb.WatchCreateRequest{}}
		w.mu.watches[resp.WatchId] = r
	}
	return r
}

func (w *watchLog) violate(resp *pb.WatchResponse, what string) {
	w.mu.violations = append(w.mu.violations, fmt.Sprintf("%s: watch rule: %s: %s", w.target.name, what, format(resp)))
}

// wait returns nil as soon as cond holds; cond is called with the lock held. What names what is waited for.
func (w *watchLog) wait(what string, timeout time.Duration, cond func() bool) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		w.mu.Lock()
		ok, changed, err := cond(), w.mu.changed, w.mu.err
		w.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return fmt.Errorf("%s: waiting for %s: stream ended: %s", w.target.name, what, status.Convert(err))
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%s: waiting for %s: nothing in %v", w.target.name, what, timeout)
		}
	}
}

// create sends req; its answer is the next control answer with created set.
func (w *watchLog) create(req *pb.WatchCreateRequest) error {
	w.mu.Lock()
	w.mu.creating = append(w.mu.creating, req)
	w.mu.Unlock()
	return w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}})
}

func (w *watchLog) send(req *pb.WatchRequest) error {
	if err := w.stream.Send(req); err != nil {
		return fmt.Errorf("%s: send %s: %w", w.target.name, format(req), err)
	}
	return nil
}

// awaitControl returns the n-th control answer of the stream, counted from 0.
func (w *watchLog) awaitControl(n int, what string) (*pb.WatchResponse, error) {
	if err := w.wait(what, w.target.patience, func() bool { return len(w.mu.control) > n }); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return proto.Clone(w.mu.control[n]).(*pb.WatchResponse), nil
}

// awaitProgress asks for progress until all watches of the stream are complete up to rev.
func (w *watchLog) awaitProgress(rev int64) error {
	var err error
	for deadline := time.Now().Add(w.target.patience); time.Now().Before(deadline); {
		if err := w.send(progressRequest()); err != nil {
			return err
		}
		err = w.wait(fmt.Sprintf("progress at revision %d", rev), progressRetry, func() bool {
			return w.mu.progressRev >= rev
		})
		if err == nil || w.ended() {
			return err
		}
	}
	return err
}

func (w *watchLog) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err != nil
}

// snapshot returns the items of every watch, normalised, and the violations of the rules so far.
func (w *watchLog) snapshot() (map[int64][]proto.Message, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	items := map[int64][]proto.Message{}
	for id, list := range w.mu.items {
		for _, m := range list {
			m = proto.Clone(m)
			w.target.normalise(m)
			items[id] = append(items[id], m)
		}
	}
	return items, append([]string(nil), w.mu.violations...)
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

func cancelRequest(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}},
	}
}

// progressAnswers returns how many progress requests have been answered.
func (w *watchLog) progressAnswers() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.progressCount
}

// fragmented returns the ids of the watches of which a response came in fragments.
func (w *watchLog) fragmented() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64(nil), w.mu.fragmented...)
}
