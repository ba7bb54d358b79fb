package crashtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/crashtest/history"
)

// What contestants share beside locks and leadership.
const (
	contestSemaphore = "hist/permits"
	contestPermits   = 3
	contestRWLock    = "hist/rw"
	contestCounter   = "hist/counter"
	contestSequence  = "hist/sequence"
	contestBarrier   = "hist/barrier"
	contestParties   = 3
)

// writerWeight is that of a writer in the model: as much as all readers together may have.
const writerWeight = 1000

// contestLimits are what the model holds of each name that is not exclusive.
var contestLimits = history.Limits{contestSemaphore: contestPermits, contestRWLock: writerWeight}

func (p *contestant) shareForever(id int) {
	for {
		pause(30)
		n := 1 + rand.IntN(2)
		kind, acquire := history.Acquire, p.client.Semaphore(contestSemaphore, contestPermits).Acquire
		if rand.IntN(4) == 0 {
			kind, acquire = history.Try, p.client.Semaphore(contestSemaphore, contestPermits).TryAcquire
		}
		returned := p.call(history.Op{Client: id, Kind: kind, Name: contestSemaphore, Weight: n})
		held, err := acquire(context.Background(), int64(n),
			client.WithMaxWait(time.Duration(1+rand.IntN(3000))*time.Millisecond))
		if err != nil {
			returned(outcome(err, client.ErrNotAcquired), 0)
			continue
		}
		returned(history.OK, held.Token())
		p.use(id, contestSemaphore, held.Token(), held, held.Release)
	}
}

func (p *contestant) readAndWriteForever(id int) {
	lock := p.client.RWLock(contestRWLock)
	for {
		pause(30)
		weight, mode := 1, client.Read
		if rand.IntN(3) == 0 {
			weight, mode = writerWeight, client.Write
		}
		returned := p.call(history.Op{Client: id, Kind: history.Acquire, Name: contestRWLock, Weight: weight})
		held, err := lock.Acquire(context.Background(), mode,
			client.WithMaxWait(time.Duration(1+rand.IntN(3000))*time.Millisecond))
		if err != nil {
			returned(outcome(err, client.ErrNotAcquired), 0)
			continue
		}
		returned(history.OK, held.Token())
		if weight == writerWeight && rand.IntN(2) == 0 {
			returned := p.call(history.Op{
				Client: id, Kind: history.Downgrade, Name: contestRWLock, Token: held.Token(),
			})
			returned(outcome(held.Downgrade(context.Background()), client.ErrNotHolder), held.Token())
		}
		p.use(id, contestRWLock, held.Token(), held, held.Release)
	}
}

// numberForever adds to a counter and takes ids of a sequence.
func (p *contestant) numberForever(id int) {
	for {
		pause(20)
		p.number(history.Count{
			Client: id, Name: contestCounter, Delta: 1 + rand.Int64N(3),
		}, func(n int64) (int64, error) {
			return p.client.Counter(contestCounter).Add(context.Background(), n)
		})
		p.number(history.Count{
			Client: id, Name: contestSequence, Delta: 1 + rand.Int64N(10),
		}, func(n int64) (int64, error) {
			ids, err := p.client.Sequence(contestSequence).Reserve(context.Background(), n)
			return ids.First + n - 1, err
		})
	}
}

func (p *contestant) number(c history.Count, do func(n int64) (int64, error)) {
	id := p.ids.Add(1)
	p.tell(line{What: "call", ID: id, Number: &c})
	value, err := do(c.Delta)
	c.Value, c.Outcome = value, outcome(err, client.ErrSessionExpired)
	p.tell(line{What: "return", ID: id, Number: &c})
}

// meetForever meets others in a barrier. It tells of a visit at each of its steps.
func (p *contestant) meetForever(id int) {
	for {
		pause(100)
		v := history.Visit{Client: id, Name: contestBarrier, Entering: now()}
		p.tell(line{What: "visit", Visit: &v})
		inside, err := p.client.Barrier(contestBarrier, contestParties).Enter(context.Background(),
			client.WithMaxWait(time.Duration(1+rand.IntN(4000))*time.Millisecond))
		if err != nil {
			continue
		}
		v.Token, v.Entered = inside.Token(), now()
		p.tell(line{What: "visit", Visit: &v})
		p.watchLoss(id, contestBarrier, inside.Token(), inside)
		pause(50)
		v.Leaving = now()
		p.tell(line{What: "visit", Visit: &v})
		// The barrier is left whatever comes of it, unless we had been lost.
		if err := inside.Leave(context.Background()); err == nil || errors.Is(err, client.ErrLost) {
			if err == nil {
				v.Left = now()
			}
			p.tell(line{What: "visit", Visit: &v})
		}
	}
}
