package propose

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// asks is the context of somebody.
var asks = principal.With(context.Background(), raftv1.Principal{User: "somebody"})

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lossyLog applies the entries it is given like a state machine that runs each once: after a while, in any order, or
// not at all.
type lossyLog struct {
	mu      sync.Mutex
	p       *Proposer
	ran     map[uint64]bool
	settled uint64
	bodies  map[string]int // how often each command ran
	lose    func() bool
	wg      sync.WaitGroup
	sizes   []int
}

func (l *lossyLog) Propose(data []byte) error {
	if l.lose() {
		return nil
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // entries are applied late, and in another order
		l.apply(data)
	}()
	return nil
}

func (l *lossyLog) apply(data []byte) {
	e, err := raftv1.DecodeEntry(data)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := statemachine.EntryResult{Member: e.Member, Boot: e.Boot, Start: e.Start, Number: e.Number, Duplicate: true}
	if !l.ran[e.Number] && e.Number > l.settled {
		l.ran[e.Number], r.Duplicate = true, false
		l.settled = max(l.settled, e.Settled)
		l.sizes = append(l.sizes, len(e.Commands))
		for _, c := range e.Commands {
			l.bodies[string(c.Body)]++
			r.Results = append(r.Results, statemachine.Result{Response: string(c.Body)})
		}
	}
	l.p.Applied(&statemachine.Applied{Entries: []statemachine.EntryResult{r}})
}

func start(t *testing.T, opts Options, lose func() bool) (*Proposer, *lossyLog) {
	l := &lossyLog{ran: map[uint64]bool{}, bodies: map[string]int{}, lose: lose}
	opts.Log, opts.Member, opts.Boot, opts.Start = l, 7, 1, 11
	l.p = New(opts)
	t.Cleanup(func() {
		l.p.Close()
		l.wg.Wait()
	})
	return l.p, l
}

func TestEveryCommandRunsOnceThoughProposalsAreLost(t *testing.T) {
	p, l := start(t, Options{Retry: 2 * time.Millisecond, MaxEntry: 100}, func() bool { return rand.IntN(3) == 0 })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			body := fmt.Sprint("command ", i)
			got, err := p.Propose(asks, raftv1.KindPut, []byte(body))
			if err != nil || got != body {
				t.Errorf("%s: result %v, %v", body, got, err)
			}
		})
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for body, n := range l.bodies {
		if n != 1 {
			t.Errorf("%s ran %d times", body, n)
		}
	}
	if len(l.bodies) != 200 {
		t.Errorf("%d commands ran, want 200", len(l.bodies))
	}
}

func TestCommandsTravelTogetherUnderLoad(t *testing.T) {
	p, l := start(t, Options{InFlight: 1}, func() bool { return false })
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() { p.Propose(asks, raftv1.KindPut, []byte(fmt.Sprint(i))) })
	}
	wg.Wait()
	if n := len(l.sizes); n > 50 {
		t.Errorf("500 commands took %d entries", n)
	}
}

func TestLeaderChangeProposesAgainAtOnce(t *testing.T) {
	var lost sync.Once
	lose := func() (gone bool) {
		lost.Do(func() { gone = true })
		return gone
	}
	p, _ := start(t, Options{Retry: time.Hour}, lose)
	done := make(chan error, 1)
	go func() {
		_, err := p.Propose(asks, raftv1.KindPut, []byte("x"))
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
			p.LeaderChanged()
		}
	}
}

func TestHeldProposerSendsNothingNew(t *testing.T) {
	p, l := start(t, Options{}, func() bool { return false })
	release := p.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := p.Propose(principal.With(ctx, raftv1.Principal{}), raftv1.KindPut, []byte("x"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v while held", err)
	}
	release()
	if _, err := p.Propose(asks, raftv1.KindPut, []byte("y")); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bodies["x"] != 0 {
		t.Error("a command that was given up in the queue ran")
	}
}

func TestWaitsEnd(t *testing.T) {
	p, _ := start(t, Options{MaxQueued: 1}, func() bool { return true })
	release := p.Hold()
	errs := make(chan error, 2)
	wait := func() {
		_, err := p.Propose(asks, raftv1.KindPut, []byte("x"))
		errs <- err
	}
	go wait()
	for n := 0; n == 0; {
		p.mu.Lock()
		n = len(p.mu.queue)
		p.mu.Unlock()
	}
	if wait(); !errors.Is(<-errs, ErrTooManyRequests) {
		t.Error("a full queue took a command")
	}
	release()
	for n := 0; n == 0; {
		p.mu.Lock()
		n = len(p.mu.inFlight)
		p.mu.Unlock()
	}
	p.Recovered(nil, func(number uint64) bool { return number == 1 })
	if err := <-errs; !errors.Is(err, ErrTimeout) {
		t.Errorf("after a snapshot that says it ran: %v", err)
	}
	go wait()
	for n := 0; n == 0; {
		p.mu.Lock()
		n = len(p.mu.inFlight)
		p.mu.Unlock()
	}
	p.Close()
	if err := <-errs; !errors.Is(err, ErrStopped) {
		t.Errorf("after close: %v", err)
	}
	if wait(); !errors.Is(<-errs, ErrStopped) {
		t.Error("a closed proposer took a command")
	}
}

func TestBytesThatWaitAreBounded(t *testing.T) {
	p, _ := start(t, Options{MaxQueuedBytes: 10}, func() bool { return false })
	release := p.Hold()
	errs := make(chan error, 3)
	propose := func(size int) {
		_, err := p.Propose(asks, raftv1.KindPut, make([]byte, size))
		errs <- err
	}
	go propose(100) // it is the only one
	for n := 0; n == 0; {
		p.mu.Lock()
		n = len(p.mu.queue)
		p.mu.Unlock()
	}
	if propose(1); !errors.Is(<-errs, ErrTooManyRequests) {
		t.Error("a full queue took a command")
	}
	release()
	if err := <-errs; err != nil {
		t.Error(err)
	}
	if propose(10); <-errs != nil {
		t.Error("a queue that was emptied refused a command")
	}
}

// A queue that is full takes what frees or renews: an eighth more of it, exactly.
func TestWhatFreesHasRoomInAFullQueue(t *testing.T) {
	p, _ := start(t, Options{MaxQueued: 16}, func() bool { return true })
	defer p.Hold()()
	submit := func(kind raftv1.Kind) (refused bool) {
		p.Submit(asks, kind, []byte("x"), func(r statemachine.Result) {
			refused = errors.Is(r.Err, ErrTooManyRequests)
		})
		return refused
	}
	for range 16 {
		if submit(raftv1.KindPut) {
			t.Fatal("refused below the bound")
		}
	}
	if !submit(raftv1.KindPut) || submit(raftv1.KindSessionEnd) || submit(raftv1.KindLeaseRevoke) ||
		!submit(raftv1.KindStreamRenew) {
		t.Error("not two more, of what frees alone")
	}
}

// TestRenewalsGoFirst: sessions must not end because somebody fills the queue.
func TestRenewalsGoFirst(t *testing.T) {
	log := &waitingLog{more: make(chan struct{}, 1)}
	p := New(Options{Member: 1, Boot: 1, Log: log})
	defer p.Close()
	log.p = p
	release := p.Hold()
	for _, kind := range []raftv1.Kind{raftv1.KindPut, raftv1.KindSessionEnd, raftv1.KindStreamRenew, raftv1.KindTick,
		raftv1.KindLeaseRenew} {
		p.Submit(asks, kind, fmt.Append(nil, uint8(kind)), func(statemachine.Result) {})
	}
	release()
	want := fmt.Sprint([]string{
		fmt.Sprint(uint8(raftv1.KindStreamRenew)), fmt.Sprint(uint8(raftv1.KindTick)),
		fmt.Sprint(uint8(raftv1.KindLeaseRenew)),
		fmt.Sprint(uint8(raftv1.KindPut)), fmt.Sprint(uint8(raftv1.KindSessionEnd)),
	})
	if got := fmt.Sprint(log.bodies(t, 5)); got != want {
		t.Errorf("proposed in the order %s, not %s", got, want)
	}
}

// TestBytesInFlightAreBounded: what every member has in memory several times is no more than an entry beyond the bound.
func TestBytesInFlightAreBounded(t *testing.T) {
	log := &waitingLog{more: make(chan struct{}, 1)}
	p := New(Options{
		Member: 1, Boot: 1, Log: log, Retry: time.Hour, InFlight: 100, MaxEntry: 100, PipelineBytes: 1,
		InFlightBytes: 250,
	})
	defer p.Close()
	log.p = p
	done := make(chan bool, 20)
	for range 20 {
		p.Submit(asks, raftv1.KindPut, make([]byte, 90), func(statemachine.Result) { done <- true })
	}
	for n := 20; n > 0; n -= 3 {
		log.bodies(t, min(n, 3))
		log.apply()
	}
	for range 20 {
		<-done
	}
	if p.mu.flying != 0 || p.mu.bytes != 0 {
		t.Errorf("%d bytes are in flight, %d wait", p.mu.flying, p.mu.bytes)
	}
}

// TestASlowLogGetsNothingTwice: what comes behind others in the log waits for them; what they passed by is lost.
func TestASlowLogGetsNothingTwice(t *testing.T) {
	p := &Proposer{opts: Options{Retry: time.Second}}
	now := time.Now()
	p.mu.inFlight = map[uint64]*proposal{}
	for n := range uint64(3) {
		p.mu.inFlight[n] = &proposal{number: n, next: now.Add(time.Millisecond), wait: time.Second}
	}
	p.moves(p.mu.inFlight[1], now)
	for n, wait := range []time.Duration{time.Millisecond, time.Millisecond, time.Second} {
		if got := p.mu.inFlight[uint64(n)].next.Sub(now); got != wait {
			t.Errorf("entry %d is proposed again after %v, not %v", n, got, wait)
		}
	}
}

// What is given up while nothing can be proposed must not keep its place in the queue.
func TestGivenUpCommandsLeaveTheQueue(t *testing.T) {
	p, _ := start(t, Options{MaxQueued: 10, MaxQueuedBytes: 1000}, func() bool { return false })
	release := p.Hold()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 100 {
		if _, err := p.Propose(principal.With(gone, raftv1.Principal{}), raftv1.KindPut,
			make([]byte, 90)); !errors.Is(err, context.Canceled) {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	p.mu.Lock()
	if len(p.mu.queue) > 1 || p.mu.bytes != 0 {
		t.Errorf("%d commands of %d bytes are left in the queue", len(p.mu.queue), p.mu.bytes)
	}
	p.mu.Unlock()
	release()
	if _, err := p.Propose(asks, raftv1.KindPut, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// A log that accepts nothing for a moment delays an entry by about that moment.
func TestRefusedAttemptsAreRepeatedSoon(t *testing.T) {
	busy := time.Now().Add(50 * time.Millisecond)
	l := &lossyLog{ran: map[uint64]bool{}, bodies: map[string]int{}, lose: func() bool { return false }}
	l.p = New(Options{Member: 7, Boot: 1, Retry: time.Hour, Log: refusing{l, busy}})
	defer l.wg.Wait()
	defer l.p.Close()
	if _, err := l.p.Propose(asks, raftv1.KindPut, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

type refusing struct {
	*lossyLog
	until time.Time
}

func (r refusing) Propose(data []byte) error {
	if time.Now().Before(r.until) {
		return errors.New("busy")
	}
	return r.lossyLog.Propose(data)
}

// lostLog takes entries and never applies them.
type lostLog struct {
	mu      sync.Mutex
	entries map[uint64]int // number of commands by entry
	more    chan struct{}  // has a token when an entry came
}

func newLostLog() *lostLog { return &lostLog{entries: map[uint64]int{}, more: make(chan struct{}, 1)} }

func (l *lostLog) Propose(data []byte) error {
	e, err := raftv1.DecodeEntry(data)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[e.Number] = len(e.Commands)
	signal(l.more)
	return nil
}

func (l *lostLog) waitEntries(t *testing.T, n int) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		l.mu.Lock()
		got := len(l.entries)
		l.mu.Unlock()
		if got == n {
			return
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("%d entries, want %d", got, n)
		}
	}
}

// A large command, such as the requests of a native stream, leaves beside an entry in flight though it is alone.
func TestALargeCommandDoesNotWaitForTheEntryInFlight(t *testing.T) {
	l := newLostLog()
	p := New(Options{Log: l, Member: 7, Boot: 1})
	defer p.Close()
	submit := func(size int) { p.Submit(asks, raftv1.KindRequests, make([]byte, size), func(statemachine.Result) {}) }
	submit(10)
	l.waitEntries(t, 1)
	submit(10)
	submit(20 << 10)
	l.waitEntries(t, 2)
	if l.entries[2] != 2 {
		t.Errorf("the second entry has %d commands, want 2", l.entries[2])
	}
}

func TestSubmitTellsAtOnceWhatIsNotTaken(t *testing.T) {
	p := New(Options{Log: newLostLog(), Member: 7, Boot: 1, MaxCommand: 100, MaxQueued: 1, InFlight: 1})
	outcome := func(size int) (err error) {
		p.Submit(asks, raftv1.KindPut, make([]byte, size), func(r statemachine.Result) { err = r.Err })
		return err
	}
	if err := outcome(101); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a command that is too large: %v", err)
	}
	p.Hold()
	answered := make(chan error, 1)
	p.Submit(asks, raftv1.KindPut, nil, func(r statemachine.Result) { answered <- r.Err })
	if err := outcome(0); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("a command that does not fit into the queue: %v", err)
	}
	p.Close()
	if err := <-answered; !errors.Is(err, ErrStopped) {
		t.Errorf("the command in the queue: %v", err)
	}
	if err := outcome(0); !errors.Is(err, ErrStopped) {
		t.Errorf("after Close: %v", err)
	}
}

// Who is told a result may submit the next command from there, whoever tells it.
func TestDoneMaySubmit(t *testing.T) {
	var lose atomic.Bool
	p, _ := start(t, Options{}, lose.Load)
	const chain = 50
	over := make(chan statemachine.Result, 1)
	var next func(n int) func(statemachine.Result)
	next = func(n int) func(statemachine.Result) {
		return func(r statemachine.Result) {
			if n == chain || r.Err != nil {
				over <- r
				return
			}
			p.Submit(asks, raftv1.KindPut, []byte(fmt.Sprint(n)), next(n+1))
		}
	}
	next(0)(statemachine.Result{})
	if r := <-over; r.Err != nil || r.Response != fmt.Sprint(chain-1) {
		t.Errorf("the chain ended with %v", r)
	}
	lose.Store(true)
	stopped := make(chan error, 1)
	p.Submit(asks, raftv1.KindPut, nil, func(statemachine.Result) {
		p.Submit(asks, raftv1.KindPut, nil, func(r statemachine.Result) { stopped <- r.Err })
	})
	p.Recovered(nil, func(uint64) bool { return true })
	p.Close()
	if err := <-stopped; !errors.Is(err, ErrStopped) {
		t.Errorf("submitted while closing: %v", err)
	}
}
