// Package propose takes commands to the log and brings their results back.
//
// Commands that arrive while entries are in flight gather in a queue and travel together in the next entry: under load
// one entry carries many, a lone command waits for nobody. There is no linger timer.
//
// A proposal may be lost on its way: forwarded ones are dropped silently while leadership moves or a queue is full. So
// an entry is proposed again, byte for byte, until its result is seen in the apply; the state machine runs it once.
package propose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Errors of Propose, beside the refusals of the state machine and the errors of the context.
var (
	// ErrTimeout: the command may or may not have run. It ran, if it did, before a snapshot that this member received
	// instead of the log, so that its result was never seen here.
	ErrTimeout = errors.New("the result of the command is not known")
	// ErrStopped: the member is stopping. A command that was in flight may or may not run.
	ErrStopped = errors.New("proposer is stopped")
	// ErrDisplaced: another process that runs from a copy of this member's data directory proposes under its name, and
	// the log has taken its side. Nothing that this process proposes runs any more; a command that was in flight may
	// have run. It is an ErrStopped, for the member has to stop.
	ErrDisplaced = fmt.Errorf("%w: another process runs from a copy of this member's data directory and has taken its "+
		"place in the log", ErrStopped)
	// ErrTooManyRequests: the queue is full; the command was not proposed.
	ErrTooManyRequests = errors.New("too many requests")
	// ErrTooLarge: the command does not fit into a log entry; it was not proposed.
	ErrTooLarge = errors.New("command is too large")
)

// Log accepts entries. An error says that this attempt certainly was not accepted.
type Log interface {
	Propose(entry []byte) error
}

// Options configure a Proposer. Zero values mean the defaults.
type Options struct {
	// Member, Boot and Start name this process.
	Member, Boot, Start uint64
	// After is the number of the last entry that an earlier Proposer of the same name has proposed, see Last: the log
	// takes one with a number that it has seen for a copy. 0: there was none.
	After uint64
	Log   Log
	// Check returns a command as it may go into the log, or why it must not: that is the error that is answered. Nil
	// lets all in.
	Check func(raftv1.Command) (raftv1.Command, error)
	// Version is the version of the cluster, with which entries are written. Nil: the lowest.
	Version func() raftv1.Version
	// Displaced is called with what says so when another start of this member's directory has taken its place in the
	// log, once, on the goroutine that applies the log. It must not block. Nil is not called.
	Displaced func(error)
	// InFlight is how many entries may wait for their results at a time, 4 by default.
	InFlight int
	// Pipeline is how many commands must wait before an entry leaves beside others in flight, 64 by default, or how
	// many bytes of them, PipelineBytes, 16 KiB by default: one command of a native stream carries many requests.
	Pipeline, PipelineBytes int
	// MaxEntry is the size at which an entry takes no further command, 1 MiB by default.
	MaxEntry int
	// InFlightBytes is how many bytes of entries in flight keep another one back, 2 MiB by default: what is in flight
	// every member has in memory several times, in messages and batches, and everything behind it waits until it was
	// applied.
	InFlightBytes int
	// MaxCommand is the size of the largest command, 64 MiB by default.
	MaxCommand int
	// MaxQueued bounds the commands that wait for an entry, 100,000 by default, and MaxQueuedBytes their bodies, 64 MiB
	// by default. One command is taken whatever its size. What only frees or renews may use an eighth more of both: a
	// queue that somebody fills must not keep others from giving up what they have.
	MaxQueued, MaxQueuedBytes int
	// Retry is the time after which an entry without a result is proposed again, at first; it doubles up to 8 × Retry.
	// 500 ms by default.
	Retry time.Duration
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.InFlight, 4}, {&o.Pipeline, 64}, {&o.PipelineBytes, 16 << 10}, {&o.MaxEntry, 1 << 20},
		{&o.InFlightBytes, 2 << 20},
		{&o.MaxCommand, 64 << 20}, {&o.MaxQueued, 100_000}, {&o.MaxQueuedBytes, 64 << 20}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Retry == 0 {
		o.Retry = 500 * time.Millisecond
	}
}

// Proposer is safe for concurrent use. Its owner hands it what the state machine's observer is told, and closes it.
type Proposer struct {
	opts Options
	kick chan struct{}
	gone chan struct{}
	// sending is held while entries are formed and proposed.
	sending sync.Mutex

	mu struct {
		sync.Mutex
		urgent   []*call // renewals and ticks, which go before the queue
		queue    []*call
		left     int // calls in both that nobody waits for any more
		bytes    int // of the bodies in both that somebody waits for
		inFlight map[uint64]*proposal
		flying   int    // bytes of inFlight
		number   uint64 // of the last entry
		held     int
		again    bool // propose everything in flight again now
		closed   bool
		stopped  error // why nothing is taken any more: ErrStopped once closed, or ErrDisplaced
	}
}

// call is one command and who waits for it.
type call struct {
	command  raftv1.Command
	done     func(statemachine.Result)
	proposal *proposal // once it is in one; guarded by the proposer's mutex
	left     bool      // nobody waits any more; likewise
}

func (c *call) size() int { return len(c.command.Body) }

// proposal is a log entry in flight: it is proposed again until its result is seen or nobody waits for it.
type proposal struct {
	number  uint64
	data    []byte
	calls   []*call
	waiting int
	next    time.Time     // when to propose it again
	wait    time.Duration // between the last attempt and next
}

// New starts a proposer.
func New(opts Options) *Proposer {
	opts.setDefaults()
	p := &Proposer{opts: opts, kick: make(chan struct{}, 1), gone: make(chan struct{})}
	p.mu.inFlight, p.mu.number = make(map[uint64]*proposal), opts.After
	go p.run()
	return p
}

// Last is the number of the last entry that was proposed. It is final once the proposer is closed.
func (p *Proposer) Last() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.number
}

// Close ends every wait with ErrStopped and returns when the proposer has stopped.
func (p *Proposer) Close() {
	p.end(ErrStopped)
	<-p.gone
}

// end takes no more commands, and answers those that wait.
func (p *Proposer) end(why error) (first bool) {
	p.mu.Lock()
	first = !p.mu.closed
	if first {
		p.mu.closed, p.mu.stopped = true, why
	}
	waiting := slices.Concat(p.mu.urgent, p.mu.queue)
	for _, e := range p.mu.inFlight {
		waiting = append(waiting, e.calls...)
	}
	p.mu.urgent, p.mu.queue, p.mu.left, p.mu.bytes, p.mu.flying = nil, nil, 0, 0, 0
	clear(p.mu.inFlight)
	p.mu.Unlock()
	answerAll(waiting, why)
	p.wake()
	return first
}

// Propose sends one command through the log and returns the Response of its result, or its refusal. After any other
// error than ErrTooManyRequests and ErrTooLarge the command may still run later.
func (p *Proposer) Propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	answered := make(chan statemachine.Result, 1) // buffered: the apply never waits
	cancel := p.Submit(ctx, kind, body, func(r statemachine.Result) { answered <- r })
	select {
	case r := <-answered:
		return r.Response, r.Err
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

// Submit is Propose for who does not wait: done is called with the result, once. It runs on the goroutine that applies
// the log, on that of Close, or, with ErrTooManyRequests, ErrTooLarge or ErrStopped for a command that was not taken,
// on the caller's before Submit returns. It must not block. cancel gives the command up: it may still run, and done may
// still be called.
//
// ctx says who asks, see package principal; nothing else of it counts.
func (p *Proposer) Submit(
	ctx context.Context, kind raftv1.Kind, body []byte, done func(statemachine.Result),
) (cancel func()) {
	by, err := principal.Of(ctx)
	if err != nil {
		done(statemachine.Result{Err: err})
		return func() {}
	}
	return p.submit(by, kind, body, done)
}

func (p *Proposer) submit(
	by raftv1.Principal, kind raftv1.Kind, body []byte, done func(statemachine.Result),
) (cancel func()) {
	c := &call{command: raftv1.Command{Kind: kind, Body: body, By: by}, done: done}
	if err := p.enqueue(c); err != nil {
		done(statemachine.Result{Err: err})
		return func() {}
	}
	return func() { p.leave(c) }
}

func (p *Proposer) enqueue(c *call) error {
	if c.size() > p.opts.MaxCommand {
		return ErrTooLarge
	}
	if p.opts.Check != nil {
		var err error
		if c.command, err = p.opts.Check(c.command); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	most, mostBytes := p.opts.MaxQueued, p.opts.MaxQueuedBytes
	if frees(c.command.Kind) {
		most, mostBytes = most+most/8, mostBytes+mostBytes/8
	}
	switch {
	case p.mu.closed:
		return p.mu.stopped
	case p.waiting() >= most, p.mu.bytes > 0 && p.mu.bytes+c.size() > mostBytes:
		return ErrTooManyRequests
	}
	if urgent(c.command.Kind) {
		p.mu.urgent = append(p.mu.urgent, c)
	} else {
		p.mu.queue = append(p.mu.queue, c)
	}
	p.mu.bytes += c.size()
	if p.mayForm() {
		p.wake()
	}
	return nil
}

// frees reports whether commands of a kind only give something back, or keep what is there alive.
func frees(kind raftv1.Kind) bool {
	switch kind {
	case raftv1.KindSessionEnd, raftv1.KindLeaseRevoke, raftv1.KindDeleteRange, raftv1.KindCompact, raftv1.KindTick,
		raftv1.KindStreamRenew, raftv1.KindLeaseRenew, raftv1.KindAlarm:
		return true
	}
	return false
}

// urgent reports whether commands of a kind go before all others: they are few and small, and sessions end if they come
// late.
func urgent(kind raftv1.Kind) bool {
	switch kind {
	case raftv1.KindTick, raftv1.KindStreamRenew, raftv1.KindLeaseRenew:
		return true
	}
	return false
}

// waiting is how many commands somebody waits for that are in no entry.
func (p *Proposer) waiting() int { return len(p.mu.urgent) + len(p.mu.queue) - p.mu.left }

// mayForm reports whether another entry may go: at once when none is in flight; beside others only when it would carry
// much, because each entry has a cost of its own in the log and a few large ones are cheaper than many small ones.
func (p *Proposer) mayForm() bool {
	waiting := p.waiting()
	return len(p.mu.inFlight) == 0 && waiting > 0 ||
		len(p.mu.inFlight) < p.opts.InFlight && p.mu.flying < p.opts.InFlightBytes &&
			(waiting >= p.opts.Pipeline || p.mu.bytes >= p.opts.PipelineBytes)
}

// leave gives a command up. Once nobody waits for an entry it is not proposed again.
func (p *Proposer) leave(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.left || p.mu.closed {
		return
	}
	c.left = true
	if e := c.proposal; e != nil {
		if e.waiting--; e.waiting == 0 {
			p.settle(e)
		}
		return
	}
	p.mu.bytes -= c.size()
	if p.mu.left++; p.mu.left > p.waiting() { // without a quorum the queue must not fill up with what was given up
		gone := func(c *call) bool { return c.left }
		p.mu.urgent, p.mu.queue = slices.DeleteFunc(p.mu.urgent, gone), slices.DeleteFunc(p.mu.queue, gone)
		p.mu.left = 0
	}
}

// settle takes an entry out of flight, which may let the next one go.
func (p *Proposer) settle(e *proposal) {
	delete(p.mu.inFlight, e.number)
	p.mu.flying -= len(e.data)
	if p.waiting() > 0 {
		p.wake()
	}
}

// moves notes that an entry was applied: those proposed after it come behind it in the log and are on their way for all
// that can be seen, so they are not proposed again yet. A log that is slow must not get everything twice.
func (p *Proposer) moves(applied *proposal, now time.Time) {
	for _, e := range p.mu.inFlight {
		if due := now.Add(e.wait); e.number > applied.number && e.next.Before(due) {
			e.next = due
		}
	}
}

func (p *Proposer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Hold keeps new entries back until release is called: leadership moves best while the log stands still. What is in
// flight goes on; what was being formed has been proposed when Hold returns.
func (p *Proposer) Hold() (release func()) {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	p.mu.held++
	p.mu.Unlock()
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.mu.held--
		p.mu.Unlock()
		p.wake()
	})
}

// LeaderChanged proposes everything in flight again at once: copies that went to the old leader may be lost.
func (p *Proposer) LeaderChanged() {
	p.mu.Lock()
	p.mu.again = true
	p.mu.Unlock()
	p.wake()
}

// Applied delivers the results that a batch brought. It is called from the apply, in order.
func (p *Proposer) Applied(a *statemachine.Applied) {
	for _, r := range a.Entries {
		if p.displacedBy(r) {
			err := fmt.Errorf("%w: this is boot %d, start %x", ErrDisplaced, p.opts.Boot, p.opts.Start)
			if r.Start != p.opts.Start {
				err = fmt.Errorf("%w, the other one is boot %d, start %x", err, r.Boot, r.Start)
			}
			if p.end(err) && p.opts.Displaced != nil {
				p.opts.Displaced(err)
			}
			return
		}
		if r.Results == nil || r.Member != p.opts.Member || r.Boot != p.opts.Boot || r.Start != p.opts.Start {
			continue
		}
		p.mu.Lock()
		e := p.mu.inFlight[r.Number]
		if e != nil {
			p.settle(e)
			p.moves(e, time.Now())
		}
		p.mu.Unlock()
		if e != nil {
			for i, c := range e.calls {
				c.done(r.Results[i])
			}
		}
	}
}

// displacedBy says whether an entry shows that another start of this member's directory counts in its place: one of its
// own that was passed over for that, or one that ran of another start which does not come from before this one.
func (p *Proposer) displacedBy(r statemachine.EntryResult) bool {
	switch {
	case r.Member != p.opts.Member:
		return false
	case r.Boot == p.opts.Boot && r.Start == p.opts.Start:
		return r.Displaced
	}
	return !r.Displaced && r.Boot >= p.opts.Boot
}

// Recovered ends the waits for entries that ran before a received snapshot: their results are lost.
func (p *Proposer) Recovered(_ *statemachine.Applied, executed func(number uint64) bool) {
	var ran []*call
	p.mu.Lock()
	for number, e := range p.mu.inFlight {
		if executed(number) {
			ran = append(ran, e.calls...)
			p.settle(e)
		}
	}
	p.mu.Unlock()
	answerAll(ran, ErrTimeout)
}

// answerAll is called without the mutex, as whoever is answered may submit more. A call is answered once at most: by
// whoever takes its entry out of flight, or closes the queue.
func answerAll(calls []*call, err error) {
	for _, c := range calls {
		c.done(statemachine.Result{Err: err})
	}
}

// run forms entries and proposes them, again where it must.
func (p *Proposer) run() {
	defer close(p.gone)
	timer := time.NewTimer(p.opts.Retry)
	defer timer.Stop()
	for {
		select {
		case <-p.kick:
		case <-timer.C:
		}
		next, closed := p.send(time.Now())
		if closed {
			return
		}
		timer.Reset(next)
	}
}

// send proposes what is due and returns the time until it has to be called again.
func (p *Proposer) send(now time.Time) (next time.Duration, closed bool) {
	p.sending.Lock()
	defer p.sending.Unlock()
	batch, next, closed := p.collect(now)
	for _, data := range batch {
		// An attempt that was not accepted is repeated like one that was lost, but sooner.
		if p.opts.Log.Propose(data) != nil && !closed {
			next = min(next, busyPause)
			p.hurry()
		}
	}
	return next, closed
}

// busyPause is the time after which entries that were not even accepted are offered again.
const busyPause = 10 * time.Millisecond

// hurry makes everything in flight due again after busyPause.
func (p *Proposer) hurry() {
	soon := time.Now().Add(busyPause)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.mu.inFlight {
		if e.next.After(soon) {
			e.next = soon
		}
	}
}

// collect returns the entries to propose now, and the time until the next one has to be proposed again.
func (p *Proposer) collect(now time.Time) (batch [][]byte, next time.Duration, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, 0, true
	}
	next = p.opts.Retry
	for _, e := range p.mu.inFlight {
		if p.mu.again || !e.next.After(now) {
			e.wait = min(2*e.wait, 8*p.opts.Retry)
			if p.mu.again {
				e.wait = p.opts.Retry
			}
			e.next = now.Add(e.wait)
			batch = append(batch, e.data)
		}
		next = min(next, e.next.Sub(now))
	}
	p.mu.again = false
	for p.mu.held == 0 && p.mayForm() {
		e := p.form(now)
		if e == nil {
			break
		}
		batch = append(batch, e.data)
	}
	return batch, next, false
}

// form makes the next entry of the commands that wait, nil if there are none.
func (p *Proposer) form(now time.Time) *proposal {
	e := &proposal{next: now.Add(p.opts.Retry), wait: p.opts.Retry}
	size := 0
	for _, queue := range []*[]*call{&p.mu.urgent, &p.mu.queue} {
		taken := 0
		for _, c := range *queue {
			if size > 0 && size+c.size() > p.opts.MaxEntry {
				break
			}
			taken++
			if c.left {
				p.mu.left--
				continue
			}
			p.mu.bytes -= c.size()
			size += c.size() + 16
			c.proposal = e
			e.calls = append(e.calls, c)
		}
		*queue = slices.Delete(*queue, 0, taken)
	}
	if len(e.calls) == 0 {
		return nil
	}
	p.mu.number++
	e.number, e.waiting = p.mu.number, len(e.calls)
	p.mu.inFlight[e.number] = e
	commands := make([]raftv1.Command, len(e.calls))
	for i, c := range e.calls {
		commands[i] = c.command
	}
	e.data = raftv1.AppendEntry(make([]byte, 0, size+64), &raftv1.Entry{
		Version: p.version(), Member: p.opts.Member, Boot: p.opts.Boot, Start: p.opts.Start, Number: e.number,
		Settled: p.settled(), Commands: commands,
	})
	p.mu.flying += len(e.data)
	return e
}

func (p *Proposer) version() raftv1.Version {
	if p.opts.Version == nil {
		return raftv1.MinVersion
	}
	return p.opts.Version()
}

// settled is the number up to which nobody waits any more.
func (p *Proposer) settled() uint64 {
	lowest := p.mu.number
	for number := range p.mu.inFlight {
		lowest = min(lowest, number)
	}
	return lowest - 1
}
