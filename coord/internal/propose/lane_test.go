package propose

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// waitingLog keeps entries until the test applies them.
type waitingLog struct {
	mu      sync.Mutex
	p       *Proposer
	entries []*raftv1.Entry
	more    chan struct{} // has a token when an entry came
}

func (l *waitingLog) Propose(data []byte) error {
	e, err := raftv1.DecodeEntry(data)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	signal(l.more)
	return nil
}

// bodies are those of the commands that were proposed and not applied, once there are n.
func (l *waitingLog) bodies(t *testing.T, n int) (all []string) {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		l.mu.Lock()
		all = nil
		for _, e := range l.entries {
			for _, c := range e.Commands {
				all = append(all, string(c.Body))
			}
		}
		l.mu.Unlock()
		if len(all) == n {
			return all
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("%d commands are proposed, not %d: %q", len(all), n, all)
		}
	}
}

// signal leaves a token for whoever waits.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// apply applies all that was proposed.
func (l *waitingLog) apply() {
	l.mu.Lock()
	entries := l.entries
	l.entries = nil
	l.mu.Unlock()
	for _, e := range entries {
		r := statemachine.EntryResult{Member: e.Member, Boot: e.Boot, Number: e.Number}
		for _, c := range e.Commands {
			r.Results = append(r.Results, statemachine.Result{Response: string(c.Body)})
		}
		l.p.Applied(&statemachine.Applied{Entries: []statemachine.EntryResult{r}})
	}
}

func newLane(t *testing.T) (*Lane, *waitingLog) {
	log := &waitingLog{more: make(chan struct{}, 1)}
	log.p = New(Options{Member: 7, Boot: 1, Log: log, Pipeline: 1, InFlight: 1000, Retry: time.Hour})
	lane := NewLane(log.p)
	t.Cleanup(func() {
		lane.Close()
		log.p.Close()
	})
	return lane, log
}

// submitted is a command and what came of it.
type submitted struct {
	cancel  func()
	results chan statemachine.Result
}

func submit(l *Lane, body string, weight int64) submitted {
	s := submitted{results: make(chan statemachine.Result, 2)}
	s.cancel = l.Submit(asks, raftv1.KindPut, []byte(body), weight, false,
		func(r statemachine.Result) { s.results <- r })
	return s
}

// TestLaneLetsHeavyCommandsGoOneByOne: light ones pass by, however many heavy ones wait, and these go in order:
// together as long as their weights allow, and alone whatever its weight.
func TestLaneLetsHeavyCommandsGoOneByOne(t *testing.T) {
	lane, log := newLane(t)
	for i, weight := range []int64{1 << 40, LaneWeight - 100, 100, 101, LaneWeight} {
		submit(lane, fmt.Sprint("heavy ", i), weight)
	}
	submit(lane, "light", LightWeight)
	for _, want := range [][]string{{"heavy 0", "light"}, {"heavy 1", "heavy 2"}, {"heavy 3"}, {"heavy 4"}} {
		if got := log.bodies(t, len(want)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("under way are %q, not %q", got, want)
		}
		log.apply()
	}
}

// TestLaneCountsWhatWasGivenUp: a client that gives a heavy command up does not make room for its next one before it
// was applied; one that waits still is not proposed at all.
func TestLaneCountsWhatWasGivenUp(t *testing.T) {
	lane, log := newLane(t)
	first, second := submit(lane, "first", LaneWeight), submit(lane, "second", LaneWeight)
	third := submit(lane, "third", LaneWeight)
	log.bodies(t, 1)
	first.cancel()
	second.cancel()
	first.cancel()
	if got := log.bodies(t, 1); got[0] != "first" {
		t.Errorf("under way is %q", got)
	}
	log.apply()
	if got := log.bodies(t, 1); got[0] != "third" {
		t.Errorf("under way is %q", got)
	}
	log.apply()
	if r := <-third.results; r.Response != "third" {
		t.Errorf("the third: %v", r)
	}
	if len(first.results)+len(second.results) > 0 {
		t.Error("what was given up was answered")
	}
	if lane.mu.running != 0 || lane.length() != 0 || lane.mu.left != 0 || lane.mu.bytes != 0 {
		t.Errorf("what is left: %+v", &lane.mu)
	}
}

// TestLaneIsBounded: what waits is, in number and bytes, and what was given up does not count. The end answers all that
// waits.
func TestLaneIsBounded(t *testing.T) {
	lane, log := newLane(t)
	submit(lane, "under way", LaneWeight)
	log.bodies(t, 1)
	var waiting []submitted
	for i := range MaxLane {
		waiting = append(waiting, submit(lane, fmt.Sprint(i), LaneWeight))
	}
	if r := <-submit(lane, "too many", LaneWeight).results; !errors.Is(r.Err, ErrTooManyRequests) {
		t.Errorf("one too many: %v", r)
	}
	waiting[7].cancel()
	large := submit(lane, string(make([]byte, MaxLaneBytes)), LaneWeight)
	if r := <-large.results; !errors.Is(r.Err, ErrTooManyRequests) {
		t.Errorf("too many bytes: %v", r)
	}
	submit(lane, "in place of what was given up", LaneWeight)
	lane.Close()
	for i, w := range waiting {
		if i != 7 {
			if r := <-w.results; !errors.Is(r.Err, ErrStopped) {
				t.Fatalf("%d at the end: %v", i, r)
			}
		}
	}
	if r := <-submit(lane, "late", LaneWeight).results; !errors.Is(r.Err, ErrStopped) {
		t.Errorf("after the end: %v", r)
	}
	log.apply()
}

// TestLaneLetsWhatFreesGoFirst: who gives up what he has is neither refused nor kept waiting by others who fill the
// lane.
func TestLaneLetsWhatFreesGoFirst(t *testing.T) {
	lane, log := newLane(t)
	submit(lane, "under way", LaneWeight)
	for i := range MaxLane {
		submit(lane, fmt.Sprint(i), LaneWeight)
	}
	if r := <-submit(lane, "too many", LaneWeight).results; !errors.Is(r.Err, ErrTooManyRequests) {
		t.Errorf("one too many: %v", r)
	}
	freed := make(chan statemachine.Result, 3)
	for _, c := range []struct {
		kind  raftv1.Kind
		frees bool
	}{{raftv1.KindLeaseRevoke, false}, {raftv1.KindSessionEnd, false}, {raftv1.KindRequests, true}} {
		lane.Submit(asks, c.kind, []byte(c.kind.String()), LaneWeight, c.frees,
			func(r statemachine.Result) { freed <- r })
	}
	for _, want := range []string{"under way", "LeaseRevoke", "SessionEnd", "Requests", "0"} {
		if got := log.bodies(t, 1); got[0] != want {
			t.Errorf("under way is %q, not %q", got, want)
		}
		log.apply()
	}
	for range 3 {
		if r := <-freed; r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// TestOpeningsAreFew: what is under way of commands that open sessions is bounded in number and bytes.
func TestOpeningsAreFew(t *testing.T) {
	for _, c := range []struct{ bytes, most int }{{50, 500}, {8 << 10, 60}} {
		lane, log := newLane(t)
		for range 2 * c.most {
			submit(lane, string(make([]byte, c.bytes)), Opening(c.bytes))
		}
		lane.mu.Lock()
		under := 2*c.most - lane.length()
		lane.mu.Unlock()
		if under > c.most || under < c.most/2 {
			t.Errorf("%d of %d bytes are under way", under, c.bytes)
		}
		lane.Close()
		log.apply()
	}
}
