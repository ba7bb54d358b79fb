package coordtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/keyspace"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// fakeLog applies each entry when it is proposed, and lets time pass.
type fakeLog struct {
	replica *keyspace.Keyspace // set once, by open
	// Both change under mu only.
	now   atomic.Int64  // a time.Duration
	index atomic.Uint64 // of the last entry

	mu     sync.Mutex
	opened bool
	own    uint64 // how many entries nobody proposed

	pausing sync.Mutex
	release func()        // of the proposer; nil: not paused
	resumed chan struct{} // closed by resume
}

var errNotOpen = errors.New("the log is not open")

func (l *fakeLog) open(r *keyspace.Keyspace) error {
	index, err := r.Machine.Open(nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replica, l.opened = r, true
	l.index.Store(index)
	l.append(raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: fakeID})
	return nil
}

func (l *fakeLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened {
		_ = l.replica.Machine.Close() // whatever it could not write is gone in a moment
		l.opened = false
	}
}

// Propose implements propose.Log.
func (l *fakeLog) Propose(entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opened {
		return errNotOpen
	}
	l.apply(entry)
	return nil
}

func (l *fakeLog) apply(entry []byte) {
	if _, err := l.replica.Machine.Update([]sm.Entry{{Index: l.index.Add(1), Cmd: entry}}); err != nil {
		panic(fmt.Sprintf("coordtest: the fake server cannot go on: %v", err))
	}
}

func (l *fakeLog) clock() time.Duration { return time.Duration(l.now.Load()) }

// advance goes from one deadline to the next, so that what begins when something else expires, as a place that is kept
// for a while, is counted from there.
func (l *fakeLog) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now.Add(int64(max(d, 0)))
	if !l.opened {
		return
	}
	l.tick(0) // gives what was granted or renewed since its deadline
	for {
		facts := l.replica.Clock.Facts()
		left := time.Duration(now).Milliseconds() - facts.ClockMS
		if left == 0 && facts.Pending == 0 && !facts.Overdue {
			return
		}
		if leases := l.replica.Machine.Leases(); len(leases) > 0 && !leases[0].Pending {
			left = min(left, max(leases[0].DeadlineMS-facts.ClockMS, 0)) // the first that is due
		}
		l.tick(left)
	}
}

// tick lets ms milliseconds pass in the log.
func (l *fakeLog) tick(ms int64) {
	facts := l.replica.Clock.Facts()
	l.append(raftv1.KindTick, &raftv1.Tick{Number: facts.LastTick + 1, DeltaMs: ms, Seen: l.index.Load()})
}

// append applies a command of the log's own.
func (l *fakeLog) append(kind raftv1.Kind, message proto.Message) {
	body, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	l.own++
	l.apply(raftv1.AppendEntry(nil, &raftv1.Entry{
		Member: fakeID + 1, Boot: 1, Number: l.own, Settled: l.own - 1,
		Commands: []raftv1.Command{{Kind: kind, Body: body}},
	}))
}

// pause holds entries and reads back until resume.
func (l *fakeLog) pause() {
	l.pausing.Lock()
	defer l.pausing.Unlock()
	if l.release == nil {
		l.release, l.resumed = l.replica.Proposer.Hold(), make(chan struct{})
	}
}

func (l *fakeLog) resume() {
	l.pausing.Lock()
	defer l.pausing.Unlock()
	if l.release != nil {
		l.release()
		close(l.resumed)
		l.release, l.resumed = nil, nil
	}
}

// running waits until the log is not paused.
func (l *fakeLog) running(ctx context.Context) error {
	l.pausing.Lock()
	resumed := l.resumed
	l.pausing.Unlock()
	if resumed == nil {
		return ctx.Err()
	}
	select {
	case <-resumed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
