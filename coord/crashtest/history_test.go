package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/coord/crashtest/history"
	"github.com/coord-dev/coord/proto/layout"
)

// contestants is how many processes contend.
const contestants = 4

// TestHistories lets processes contend for locks, several at a time, for leadership, permits and a read-write lock,
// count, take ids and meet in a barrier, while they are stopped beyond their TTL and killed, their connections cut,
// answers lost, leaders killed and stopped, and the log cut behind snapshots. Then it judges all that they saw: L1 to
// L5, L8 and L9, E1 to E5, that no more permits are held than there are, readers and writers apart, barriers entered
// together, numbers unique, and that every write was executed exactly once.
func TestHistories(t *testing.T) {
	c := startCluster(t, 3, "--snapshot-count=300")
	j := &judge{
		t: t, cluster: c, log: history.NewLog(), gatherings: history.NewGatherings(), expiry: make(history.Expiry),
	}
	j.follow()
	for i := range contestants {
		j.people = append(j.people, startContestant(t, c, fmt.Sprint("p", i)))
	}
	time.Sleep(time.Second)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	j.disturb(rand.New(rand.NewPCG(seed, 0)), 12*rounds(t))
	for _, p := range j.people {
		if !p.killed {
			p.stop()
		}
	}
	j.emptied()
	j.check()
}

// person is a contestant's process, seen from the test.
type person struct {
	*process
	name    string
	file    string // what it tells
	proxies []*proxy
	still   []span // when it stood still, at most
	killed  bool
}

// span is a time from an instant before it began to an instant after it ended.
type span struct{ from, to int64 }

func startContestant(t *testing.T, c *cluster, name string) *person {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &person{name: name, file: filepath.Join(c.dir, name+".log")}
	var endpoints []string
	for _, m := range c.members {
		proxy := startProxy(t, m.client)
		p.proxies = append(p.proxies, proxy)
		endpoints = append(endpoints, proxy.addr())
	}
	env := []string{roleEnv + "=contest", contestEnv + "=" + name, endpointsEnv + "=" + strings.Join(endpoints, ",")}
	p.process = launch{env: env}.start(t, p.file, self)
	return p
}

// stop kills the process; what it holds may expire from now on.
func (p *person) stop() {
	p.killed = true
	p.still = append(p.still, span{now(), math.MaxInt64})
	p.kill()
}

// judge follows the log while the contest is on.
type judge struct {
	t       *testing.T
	cluster *cluster
	people  []*person
	running sync.WaitGroup
	end     context.CancelFunc

	mu  sync.Mutex
	log *history.Log
	err error // the first thing that is wrong with the log

	gatherings *history.Gatherings
	ops        []history.Op
	numbers    []history.Count
	visits     []history.Visit
	entering   map[string][]int64 // when anybody called to enter a barrier
	expiry     history.Expiry
	lost       map[history.Grant]int64 // by those that were not stopped
	counts     map[string][3]int       // ok, unknown, not done
	seen       map[string][]history.Observation
}

// follow watches all that the contestants change, from the beginning.
func (j *judge) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	j.watch(ctx, "hist/", j.log.Apply)
	j.watch(ctx, layout.Barrier.Begin("hist/"), j.gatherings.Apply)
	j.end = sync.OnceFunc(func() {
		cancel()
		j.running.Wait()
	})
	j.t.Cleanup(j.end)
}

// watch hands all changes of the keys with a prefix over, whole revisions at a time.
func (j *judge) watch(ctx context.Context, prefix string, apply func([]*mvccpb.Event) error) {
	events := j.cluster.dial().Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1),
		clientv3.WithCreatedNotify())
	<-events
	j.running.Go(func() {
		for resp := range events {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				j.fault(fmt.Errorf("watch: %w", err))
			}
			batch := make([]*mvccpb.Event, len(resp.Events))
			for i, e := range resp.Events {
				batch[i] = (*mvccpb.Event)(e)
			}
			j.mu.Lock()
			err := apply(batch)
			j.mu.Unlock()
			if err != nil {
				j.fault(err)
			}
		}
	})
}

func (j *judge) fault(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
}

// disturb does harm, a number of times.
func (j *judge) disturb(r *rand.Rand, times int) {
	for n := range times {
		alive := slices.DeleteFunc(slices.Clone(j.people), func(p *person) bool { return p.killed })
		p := alive[r.IntN(len(alive))]
		switch n % 6 {
		case 0: // a client that stands still beyond its TTL
			from := now()
			p.signal(syscall.SIGSTOP)
			time.Sleep(2 * contestTTL)
			p.signal(syscall.SIGCONT)
			p.still = append(p.still, span{from, now()})
		case 1:
			for _, proxy := range p.proxies {
				proxy.cut()
			}
		case 2:
			var wg sync.WaitGroup
			for _, proxy := range p.proxies {
				wg.Go(func() { proxy.loseAnswers(time.Duration(20+r.IntN(200)) * time.Millisecond) })
			}
			wg.Wait()
		case 3:
			j.cluster.leader().kill()
			time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
			j.cluster.start()
		case 4: // a client that dies and comes back as another
			p.stop()
			j.people = append(j.people, startContestant(j.t, j.cluster, fmt.Sprint("p", len(j.people))))
		case 5:
			leader := j.cluster.leader()
			leader.signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
			leader.signal(syscall.SIGCONT)
		}
		time.Sleep(time.Duration(200+r.IntN(600)) * time.Millisecond)
	}
}

// emptied waits until nothing is left of the dead: a queue with a ghost in it would be stuck for ever.
func (j *judge) emptied() {
	j.t.Helper()
	cli := j.cluster.dial()
	queues := append(slices.Clone(contestLocks), contestElection,
		layout.Semaphore.Begin(contestSemaphore), layout.RWLock.Begin(contestRWLock),
		layout.Barrier.Begin(contestBarrier))
	for _, queue := range queues {
		left := -1
		for begin := time.Now(); left != 0 && time.Since(begin) < patience; time.Sleep(50 * time.Millisecond) {
			got, err := cli.Get(within(j.t, patience), queue+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if err != nil {
				j.t.Fatal(err)
			}
			// records have none
			left = len(slices.DeleteFunc(got.Kvs, func(kv *mvccpb.KeyValue) bool { return kv.Lease == 0 }))
		}
		if left != 0 {
			j.t.Errorf("%d entries are left in %q of contestants that are dead", left, queue)
		}
	}
}

// check judges.
func (j *judge) check() {
	j.t.Helper()
	cli := j.cluster.dial()
	last, err := cli.Put(within(j.t, patience), "hist/last", "")
	if err != nil {
		j.t.Fatal(err)
	}
	j.waitLog(last.Header.Revision)
	j.end()
	if j.err != nil {
		j.t.Error(j.err)
	}
	j.lost, j.counts, j.seen = make(map[history.Grant]int64), make(map[string][3]int),
		make(map[string][]history.Observation)
	j.entering = make(map[string][]int64)
	for i, p := range j.people {
		j.hear(i, p)
	}
	grants := 0
	for _, op := range j.ops {
		if op.Outcome == history.OK && op.Token != 0 && contestLimits[op.Name] == 0 {
			grants++
			if err := j.log.Granted(history.Grant{Name: op.Name, Token: op.Token}); err != nil {
				j.t.Error(err)
			}
		}
	}
	j.t.Logf("%d operations, %d with a grant, %d grants whose session may have died, %d lost by those that never "+
		"stood still", len(j.ops), grants, len(j.expiry), len(j.lost))
	if grants < 50*rounds(j.t) {
		j.t.Errorf("only %d operations had a grant: the contest was none", grants)
	}
	if err := history.Linearizable(j.ops, contestLimits, j.expiry, patience); err != nil {
		j.t.Errorf("%v; it is kept in %s", err, j.keep())
	}
	for name, seen := range j.seen {
		if err := j.log.Observed(contestElection, seen); err != nil {
			j.t.Errorf("%s: %v", name, err)
		}
	}
	j.checkLosses()
	j.checkCounts(cli)
	j.checkNumbers()
	j.checkMeetings()
	j.cluster.checkEqual()
}

// checkNumbers sees that additions and ids are those of a counter and of a sequence.
func (j *judge) checkNumbers() {
	j.t.Logf("%d operations on a counter and a sequence", len(j.numbers))
	if len(j.numbers) < 100*rounds(j.t) {
		j.t.Errorf("only %d operations on a counter and a sequence: the contest was none", len(j.numbers))
	}
	if err := history.LinearizableCounts(j.numbers, patience); err != nil {
		j.t.Error(err)
	}
}

// checkMeetings sees that parties met in the barrier, and that all were there.
func (j *judge) checkMeetings() {
	for i, v := range j.visits {
		generation, ok := j.gatherings.Generation(v.Name, v.Token)
		if !ok {
			j.t.Fatalf("a party was let into %q with token %d, and in the log it never was", v.Name, v.Token)
		}
		j.visits[i].Generation = generation
	}
	j.t.Logf("%d generations met, %d visits", j.gatherings.Opened(contestBarrier), len(j.visits))
	if len(j.visits) < 5*rounds(j.t) {
		j.t.Errorf("only %d visits of the barrier", len(j.visits))
	}
	err := history.Met(j.visits, j.entering, contestParties, func(v history.Visit) (int64, bool) {
		at, ok := j.expiry[history.Grant{Name: v.Name, Token: v.Token}]
		return at, ok
	})
	if err != nil {
		j.t.Error(err)
	}
}

// keep writes the history down.
func (j *judge) keep() string {
	type grant struct {
		history.Grant
		Expiry int64
	}
	var expiry []grant
	for g, at := range j.expiry {
		expiry = append(expiry, grant{g, at})
	}
	data, err := json.Marshal(map[string]any{"ops": j.ops, "expiry": expiry})
	if err != nil {
		return err.Error()
	}
	f, err := os.CreateTemp("", "history-*.json")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err.Error()
	}
	return f.Name()
}

func (j *judge) waitLog(revision int64) {
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		j.mu.Lock()
		done := j.log.Revision() >= revision || j.err != nil
		j.mu.Unlock()
		if done {
			return
		}
	}
	j.t.Fatalf("the watch did not come to revision %d", revision)
}

// hear reads what a contestant told.
func (j *judge) hear(id int, p *person) {
	j.t.Helper()
	data, err := os.ReadFile(p.file)
	if err != nil {
		j.t.Fatal(err)
	}
	open := make(map[int64]history.Op)
	openNumbers := make(map[int64]history.Count)
	visits := make(map[int64]history.Visit) // by token, as told last
	counts := j.counts[p.name]
	granted := make(map[history.Grant]int64)
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			continue // the last line of a process that was killed, or what is no line at all
		}
		l.Op.Client = 10*id + l.Op.Client
		switch {
		case l.Number != nil:
			j.hearNumber(id, l, openNumbers)
			continue
		case l.Visit != nil && l.Visit.Token == 0:
			j.entering[l.Visit.Name] = append(j.entering[l.Visit.Name], l.Visit.Entering)
			continue
		case l.Visit != nil:
			visits[l.Visit.Token] = *l.Visit
			granted[history.Grant{Name: l.Visit.Name, Token: l.Visit.Token}] = l.Visit.Entering
			continue
		}
		switch l.What {
		case "call":
			l.Op.Call, l.Op.Return = l.NS, math.MaxInt64
			open[l.ID] = l.Op
		case "return":
			op := open[l.ID]
			delete(open, l.ID)
			l.Op.Call, l.Op.Return = op.Call, l.NS
			j.ops = append(j.ops, l.Op)
			if (op.Kind == history.Acquire || op.Kind == history.Try) && l.Op.Outcome == history.OK {
				granted[history.Grant{Name: op.Name, Token: l.Op.Token}] = op.Call
			}
		case "lost":
			g := history.Grant{Name: l.Op.Name, Token: l.Op.Token}
			j.expires(g, l.NS)
			if !p.stoodStill() {
				j.lost[g] = l.NS
			}
		case "seen":
			j.seen[p.name] = append(j.seen[p.name], *l.Observed)
		case "count":
			counts[slices.Index([]history.Outcome{history.OK, history.Unknown, history.Refused}, l.Count)]++
		}
	}
	for _, op := range open {
		j.ops = append(j.ops, op)
	}
	for _, n := range openNumbers {
		j.numbers = append(j.numbers, n)
	}
	for _, v := range visits {
		j.visits = append(j.visits, v)
	}
	counts[1]++ // it was killed, perhaps in the middle of a write
	j.counts[p.name] = counts
	for g, call := range granted {
		for _, still := range p.still {
			if call <= still.to {
				j.expires(g, max(call, still.from)) // it may have been granted just before the process stood still
			}
		}
	}
}

// hearNumber takes over the call or the return of an operation on a number.
func (j *judge) hearNumber(id int, l line, open map[int64]history.Count) {
	n := *l.Number
	n.Client = 10*id + n.Client
	if l.What == "call" {
		n.Call, n.Return = l.NS, math.MaxInt64
		open[l.ID] = n
		return
	}
	n.Call, n.Return = open[l.ID].Call, l.NS
	delete(open, l.ID)
	if n.Outcome != history.Refused { // then it had no effect
		j.numbers = append(j.numbers, n)
	}
}

// stoodStill says whether the process did, other than by its death.
func (p *person) stoodStill() bool {
	return slices.ContainsFunc(p.still, func(s span) bool { return s.to < math.MaxInt64 })
}

// expires notes that a grant may have gone from an instant on; the earliest counts.
func (j *judge) expires(g history.Grant, at int64) {
	if before, ok := j.expiry[g]; !ok || at < before {
		j.expiry[g] = at
	}
}

// checkLosses sees that who lost an exclusive grant knew it before anybody was told of the next (L9). Who stood still
// could not know.
func (j *judge) checkLosses() {
	for _, op := range j.ops {
		if contestLimits[op.Name] > 1 || (op.Kind != history.Acquire && op.Kind != history.Try) ||
			op.Outcome != history.OK {
			continue
		}
		for g, lost := range j.lost {
			if g.Name == op.Name && g.Token < op.Token && op.Return < lost {
				j.t.Errorf("token %d of %q was granted %v before the holder of %d knew that it had lost", op.Token,
					op.Name, time.Duration(lost-op.Return), g.Token)
			}
		}
	}
}

// checkCounts compares the versions of the keys that each contestant wrote with what was acknowledged.
func (j *judge) checkCounts(cli *clientv3.Client) {
	for _, p := range j.people {
		got, err := cli.Get(within(j.t, patience), contestCounters+p.name)
		if err != nil {
			j.t.Fatal(err)
		}
		executed := 0
		if len(got.Kvs) > 0 {
			executed = int(got.Kvs[0].Version)
		}
		ok, unknown := j.counts[p.name][0], j.counts[p.name][1]
		if executed < ok || executed > ok+unknown {
			j.t.Errorf("%s: %d writes were acknowledged, %d have an unknown outcome, %d were executed", p.name, ok,
				unknown, executed)
		}
	}
}
