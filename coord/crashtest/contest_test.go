package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/crashtest/history"
)

// The names that contestants contend for, and their sessions' TTL.
const (
	contestTTL      = time.Second
	contestElection = "hist/election"
	contestCounters = "hist/count/"
	contestWrites   = "hist/written/"
)

var contestLocks = []string{"hist/lock-a", "hist/lock-b", "hist/lock-c"}

// contestEnv names a contestant.
const contestEnv = "CRASHTEST_CONTESTANT"

// line is one line of what a contestant tells: a call, its return, or something that it was told.
type line struct {
	What     string // "call", "return", "lost", "count", "seen", "visit"
	ID       int64  // of the call
	Op       history.Op
	NS       int64
	Count    history.Outcome      `json:",omitempty"`
	Observed *history.Observation `json:",omitempty"`
	Number   *history.Count       `json:",omitempty"`
	Visit    *history.Visit       `json:",omitempty"`
}

// contestant writes lines to its standard output, each with one write.
type contestant struct {
	client *client.Client
	name   string
	ids    atomic.Int64
}

// contest takes and gives back locks and leadership in every way, until the process is killed.
func contest() {
	endpoints := strings.Split(os.Getenv(endpointsEnv), ",")
	name := os.Getenv(contestEnv)
	c, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: contestTTL, Owner: name})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	p := &contestant{client: c, name: name}
	var wg sync.WaitGroup
	for id := range 2 {
		wg.Go(func() { p.lockForever(id) })
	}
	wg.Go(func() { p.leadForever(2) })
	wg.Go(p.observeForever)
	wg.Go(p.countForever)
	wg.Go(func() { p.shareForever(3) })
	wg.Go(func() { p.readAndWriteForever(4) })
	wg.Go(func() { p.numberForever(5) })
	wg.Go(func() { p.meetForever(6) })
	wg.Wait()
}

// now is CLOCK_MONOTONIC, which all processes of the machine share.
func now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func (p *contestant) tell(l line) {
	if l.NS == 0 {
		l.NS = now()
	}
	data, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.Write(append(data, '\n'))
}

// call tells of a call, and returns what tells of its return.
func (p *contestant) call(op history.Op) (returned func(outcome history.Outcome, token int64)) {
	id := p.ids.Add(1)
	p.tell(line{What: "call", ID: id, Op: op})
	return func(outcome history.Outcome, token int64) {
		op.Outcome, op.Token = outcome, token
		p.tell(line{What: "return", ID: id, Op: op})
	}
}

// granted is what a lock and a leadership have in common.
type granted interface {
	Lost() <-chan struct{}
	Err() error
	KV() clientv3.KV
}

// outcome is what an error says of an operation that can be refused with one of some errors.
func outcome(err error, refusals ...error) history.Outcome {
	switch {
	case err == nil:
		return history.OK
	case errors.Is(err, client.ErrOutcomeUnknown):
		return history.Unknown
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return history.Refused
		}
	}
	return history.Unknown
}

func (p *contestant) lockForever(id int) {
	for {
		pause(30)
		name := contestLocks[rand.IntN(len(contestLocks))]
		switch rand.IntN(5) {
		case 0:
			p.tryOne(id, name)
		case 1:
			p.acquireTwo(id)
		default:
			p.acquireOne(id, name)
		}
	}
}

func (p *contestant) acquireOne(id int, name string) {
	returned := p.call(history.Op{Client: id, Kind: history.Acquire, Name: name})
	held, err := p.client.Lock(name).Acquire(context.Background(),
		client.WithMaxWait(time.Duration(1+rand.IntN(3000))*time.Millisecond))
	if err != nil {
		returned(outcome(err, client.ErrNotAcquired), 0)
		return
	}
	returned(history.OK, held.Token())
	p.use(id, name, held.Token(), held, func(ctx context.Context) error { return held.Release(ctx) })
}

func (p *contestant) tryOne(id int, name string) {
	returned := p.call(history.Op{Client: id, Kind: history.Try, Name: name})
	held, err := p.client.Lock(name).TryAcquire(context.Background())
	if err != nil {
		returned(outcome(err, client.ErrNotAcquired), 0)
		return
	}
	returned(history.OK, held.Token())
	p.use(id, name, held.Token(), held, func(ctx context.Context) error { return held.Release(ctx) })
}

// acquireTwo takes two locks in one step, in any order of names: nobody can wait for each other.
func (p *contestant) acquireTwo(id int) {
	names := []string{contestLocks[0], contestLocks[1], contestLocks[2]}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:2]
	first := p.call(history.Op{Client: id, Kind: history.Acquire, Name: names[0]})
	second := p.call(history.Op{Client: id, Kind: history.Acquire, Name: names[1]})
	held, err := p.client.Locks(names...).Acquire(context.Background(),
		client.WithMaxWait(time.Duration(1+rand.IntN(3000))*time.Millisecond))
	if err != nil {
		first(outcome(err, client.ErrNotAcquired), 0)
		second(outcome(err, client.ErrNotAcquired), 0)
		return
	}
	first(history.OK, held.Token(names[0]))
	second(history.OK, held.Token(names[1]))
	for _, name := range names {
		p.watchLoss(id, name, held.Token(name), held)
	}
	pause(20)
	firstBack := p.call(history.Op{Client: id, Kind: history.Release, Name: names[0], Token: held.Token(names[0])})
	secondBack := p.call(history.Op{Client: id, Kind: history.Release, Name: names[1], Token: held.Token(names[1])})
	out := history.Unknown // of one of both at least, if there is an error
	if held.Release(context.Background()) == nil {
		out = history.OK
	}
	firstBack(out, held.Token(names[0]))
	secondBack(out, held.Token(names[1]))
}

func (p *contestant) leadForever(id int) {
	for {
		pause(100)
		returned := p.call(history.Op{Client: id, Kind: history.Acquire, Name: contestElection})
		term, err := p.client.Election(contestElection).Campaign(context.Background(), []byte(p.name),
			client.WithMaxWait(time.Duration(1+rand.IntN(4000))*time.Millisecond))
		if err != nil {
			returned(outcome(err, client.ErrNotAcquired), 0)
			continue
		}
		returned(history.OK, term.Term())
		for range rand.IntN(3) {
			_ = term.Proclaim(context.Background(), fmt.Appendf(nil, "%s %d", p.name, rand.Int32()))
		}
		p.use(id, contestElection, term.Term(), term, func(ctx context.Context) error { return term.Resign(ctx) })
	}
}

// use writes under the guard of a grant a few times and gives it back.
func (p *contestant) use(id int, name string, token int64, g granted, release func(context.Context) error) {
	p.watchLoss(id, name, token, g)
	for range rand.IntN(3) {
		returned := p.call(history.Op{Client: id, Kind: history.Guarded, Name: name, Token: token})
		_, err := g.KV().Put(context.Background(), contestWrites+name, fmt.Sprint(token))
		returned(outcome(err, client.ErrFenced), token)
		pause(10)
	}
	returned := p.call(history.Op{Client: id, Kind: history.Release, Name: name, Token: token})
	// ErrRemoved is the servers' answer. Any other loss is what the session fears, and the servers may still see it
	// hold.
	returned(outcome(release(context.Background()), client.ErrRemoved), token)
}

// watchLoss tells when a grant is lost.
func (p *contestant) watchLoss(id int, name string, token int64, g granted) {
	go func() {
		<-g.Lost()
		at := now()
		if !errors.Is(g.Err(), client.ErrReleased) {
			p.tell(line{What: "lost", NS: at, Op: history.Op{Client: id, Name: name, Token: token}})
		}
	}()
}

func (p *contestant) observeForever() {
	for {
		for o, err := range p.client.Election(contestElection).Observe(context.Background()) {
			if err != nil {
				break
			}
			p.tell(line{What: "seen", Observed: &history.Observation{
				Reign: history.Reign{
					Revision: o.Revision, Key: o.Leader.Key, Token: o.Leader.Term, Value: o.Leader.Value,
				}, Gap: o.Gap,
			}})
		}
		pause(100)
	}
}

// countForever writes one key again and again: its version says how many writes were executed.
func (p *contestant) countForever() {
	for {
		_, err := p.client.Put(context.Background(), contestCounters+p.name, "x")
		p.tell(line{What: "count", Count: outcome(err, client.ErrSessionExpired)})
		pause(10)
	}
}

// pause sleeps for up to so many milliseconds.
func pause(most int) { time.Sleep(time.Duration(rand.IntN(most*1000)) * time.Microsecond) }
