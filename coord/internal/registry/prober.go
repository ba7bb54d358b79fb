package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/instances"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
)

// ErrProbeTimeout: a target did not answer within its probe's timeout.
var ErrProbeTimeout = errors.New("the target did not answer in time")

// ProbeLimits bound what probing may cost, whoever registers. Zero stands for the default.
type ProbeLimits struct {
	// Targets is how many instances are probed at most; those beyond wait until others leave. Default 10,000.
	Targets int
	// Rate is how many probes begin in a second. Default 1,000: all targets, at the default interval.
	Rate int
	// Answering and Hanging are how many may be under way: of targets that answered last time or were never asked, and
	// of those that did not. Default 256 and 64. Each may have a connection.
	Answering, Hanging int
}

// EnsureDefaults fills in what is zero.
func (l *ProbeLimits) EnsureDefaults() {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.Targets, 10_000}, {&l.Rate, 1000}, {&l.Answering, 256}, {&l.Hanging, 64}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
}

// Prober probes the instances that ask for it, while this member leads.
type Prober struct {
	backend Backend
	limits  ProbeLimits
	probe   func(context.Context, *instances.Probe) error
	pace    pace
	// Slots of probes under way.
	answering, hanging chan struct{}
}

// NewProber returns a prober, which connects to what the policy allows. It does nothing before Run.
func NewProber(b Backend, policy *Policy, limits ProbeLimits) *Prober {
	limits.EnsureDefaults()
	return &Prober{
		backend: b, limits: limits, probe: newAsker(policy).ask,
		pace:      pace{step: time.Second / time.Duration(limits.Rate)},
		answering: make(chan struct{}, limits.Answering), hanging: make(chan struct{}, limits.Hanging),
	}
}

// pace spreads what begins: one thing each step.
type pace struct {
	step time.Duration
	mu   sync.Mutex
	next time.Time
}

// wait returns when the caller may begin; false if ctx ended.
func (p *pace) wait(ctx context.Context) bool {
	p.mu.Lock()
	now := time.Now()
	p.next = later(now, p.next.Add(p.step))
	turn := p.next.Sub(now)
	p.mu.Unlock()
	return turn <= 0 && ctx.Err() == nil || sleep(ctx, turn)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leaderPoll is how often a member looks whether it leads.
const leaderPoll = 100 * time.Millisecond

// Run probes until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	for sleep(ctx, leaderPoll) {
		if p.backend.Leads() {
			p.lead(ctx)
		}
	}
	return nil
}

// lead probes as long as this member leads. When it returns, nothing is under way.
func (p *Prober) lead(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	term := &term{Prober: p, ctx: ctx, targets: map[instances.Name]*target{}, waiting: map[instances.Name]bool{}}
	term.mirror = newMirror(&p.backend, term.changed)
	defer term.running.Wait()
	defer cancel()
	term.running.Go(func() { guard.Loop(ctx, p.backend.Logger, "registry", func() { term.mirror.run(ctx) }) })
	for sleep(ctx, leaderPoll) {
		if !p.backend.Leads() {
			return
		}
	}
}

// term is the time during which this member leads.
type term struct {
	*Prober
	ctx     context.Context
	mirror  *mirror
	targets map[instances.Name]*target // belongs to mirror.run
	waiting map[instances.Name]bool    // for there to be fewer; likewise
	warned  time.Time                  // that there are too many; likewise
	running sync.WaitGroup
}

// changed starts, stops and informs the targets of these instances.
func (t *term) changed(names []instances.Name) {
	for _, name := range names {
		in := t.mirror.get(name)
		probed := in != nil && in.Probe != nil && !in.Stale
		have := t.targets[name]
		switch {
		case have != nil && !probed:
			have.stop()
			delete(t.targets, name)
			t.beginNext()
		case have != nil:
			have.tell(in)
		case probed && t.admits(in):
			t.targets[name] = t.begin(in)
		case !probed:
			delete(t.waiting, name)
		}
	}
}

// admits reports whether one more instance may be probed. One that may not waits until another leaves.
func (t *term) admits(in *instances.Instance) bool {
	name := instances.Name{Service: in.Service, ID: in.ID}
	if len(t.targets) < t.limits.Targets {
		delete(t.waiting, name)
		return true
	}
	t.waiting[name] = true
	if now := time.Now(); now.Sub(t.warned) > time.Minute {
		t.warned = now
		t.backend.Logger.Warn("too many instances ask for probes: some are not probed",
			zap.Int("probed", len(t.targets)),
			zap.Int("waiting", len(t.waiting)), zap.String("service", in.Service), zap.String("id", in.ID))
	}
	return false
}

// beginNext begins with one that waits.
func (t *term) beginNext() {
	for name := range t.waiting {
		delete(t.waiting, name)
		if in := t.mirror.get(name); in != nil && in.Probe != nil && !in.Stale {
			t.targets[name] = t.begin(in)
			return
		}
	}
}

// target is an instance that is probed. All but news belongs to its goroutine.
type target struct {
	term *term
	stop context.CancelFunc
	news chan *instances.Instance // capacity 1: what is registered now

	in      *instances.Instance
	verdict instances.State // 0: none yet
	detail  string
	since   time.Time // of the verdict
	inRow   int       // results that speak against the verdict
	hung    bool      // the last probe did not end in time
}

func (t *term) begin(in *instances.Instance) *target {
	ctx, stop := context.WithCancel(t.ctx)
	target := &target{
		term: t, stop: stop, news: make(chan *instances.Instance, 1), in: in, verdict: in.Probed, since: time.Now(),
	}
	t.running.Go(func() { guard.Loop(ctx, t.backend.Logger, "probe", func() { target.run(ctx) }) })
	return target
}

// tell replaces what the target has not heard yet.
func (t *target) tell(in *instances.Instance) {
	select {
	case <-t.news:
	default:
	}
	t.news <- in
}

// firstWait spreads the first probes after a change of leader.
const firstWait = time.Second

func (t *target) run(ctx context.Context) {
	next := time.Now()
	if t.verdict != 0 {
		next = next.Add(rand.N(min(firstWait, t.in.Probe.Interval)))
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case in := <-t.news:
			t.take(in)
		case began := <-timer.C:
			if !t.ask(ctx) {
				return
			}
			next = began.Add(t.in.Probe.Interval)
		}
		wait := time.Until(next)
		if !t.settle(ctx) {
			wait = min(wait, retryAfter)
		}
		timer.Reset(max(wait, 0))
	}
}

// take takes over what is registered now.
func (t *target) take(in *instances.Instance) {
	if *in.Probe != *t.in.Probe {
		t.inRow = 0
	}
	t.in = in
}

// ask probes once and counts the result; false if ctx ended.
func (t *target) ask(ctx context.Context) bool {
	slots := t.term.answering
	if t.hung {
		slots = t.term.hanging
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if !t.term.pace.wait(ctx) {
		<-slots
		return false
	}
	err := t.dial(ctx)
	<-slots
	if ctx.Err() != nil {
		return false
	}
	t.count(err)
	return true
}

// dial probes once. A panic over what the target answered is a failure of the target.
func (t *target) dial(ctx context.Context) (err error) {
	defer guard.Recover(t.term.backend.Logger, "probe", func(cause any) { err = guard.Status(cause) })
	asked, cancel := context.WithTimeoutCause(ctx, t.in.Probe.Timeout, ErrProbeTimeout)
	defer cancel()
	err = t.term.probe(asked, t.in.Probe)
	if t.hung = asked.Err() != nil; t.hung {
		return fmt.Errorf("%w: %v", ErrProbeTimeout, t.in.Probe.Timeout)
	}
	return err
}

// count damps: only so many results in a row change a verdict. The first success makes one where there is none.
func (t *target) count(err error) {
	result, needed := instances.Passing, t.in.Probe.Successes
	detail := ""
	if err != nil {
		result, needed, detail = instances.Critical, t.in.Probe.Failures, err.Error()
	}
	if result == t.verdict {
		t.inRow = 0
		return
	}
	if t.verdict == 0 && err == nil {
		t.inRow, needed = 0, 1
	}
	if t.inRow++; t.inRow >= needed {
		t.verdict, t.detail, t.since, t.inRow = result, detail, time.Now(), 0
		t.term.backend.Logger.Info("a service's probe", zap.String("service", t.in.Service), zap.String("id", t.in.ID),
			zap.Stringer("state", result), zap.String("detail", detail))
	}
}

// settle writes what the store does not show yet; false if that failed.
func (t *target) settle(ctx context.Context) bool {
	if t.verdict == 0 || t.in.Probed == t.verdict {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	noted := &recipesv1.ServiceNoted{}
	_, err := t.term.backend.Propose.Call(ctx, recipes.RegistryProbed, &recipesv1.ServiceFound{
		Service: t.in.Service, Id: t.in.ID, Lease: t.in.Lease, Record: instances.ProbedValue(t.verdict, t.detail,
			t.since, t.in.Lease),
	}, noted)
	if err != nil || !noted.Written {
		return false // the instance is another one by now: news will come
	}
	shown := *t.in // until news come
	shown.Probed = t.verdict
	t.in = &shown
	return true
}

// writeTimeout bounds the wait for one write.
const writeTimeout = 5 * time.Second
