package suite

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/coord-dev/coord/bench/driver"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/wire"
	"github.com/coord-dev/coord/bench/workload"
)

// loopRow is a row of closed loops.
type loopRow struct {
	name  string
	isFor func(peers.Product) bool
	// loaded rows need all keys of Config.Keys.
	loaded bool
	// leastClients is the fewest clients with which the row has a meaning.
	leastClients int
	// open connects clients to a product's members, of which the first leads.
	open func(ctx context.Context, s *Suite, p peers.Product, endpoints []string, clients int) (loop, error)
}

// loop is what connected clients do.
type loop struct {
	op    workload.Op
	close func() error
	// handoff, when not nil, measures instead of the time that op takes.
	handoff *workload.Handoff
}

// contenders is how many want one lock at least, so that somebody always waits.
const contenders = 8

// loopRows returns the closed-loop rows in the order in which they run.
func loopRows() []loopRow {
	stub := func(name string, op func(wire.Pool, workload.Data) workload.Op) loopRow {
		return loopRow{name: name, isFor: peers.Product.SpeaksEtcd, loaded: true, open: openStubs(op)}
	}
	return []loopRow{
		stub(RowPut, workload.Put),
		stub(RowGet, workload.Get),
		stub(RowPair, workload.PutDelete),
		writeRow(),
		driven(RowStreamRead, func(d driver.Driver) func(context.Context, int) error { return d.Read }),
		driven(RowStreamLock, func(d driver.Driver) func(context.Context, int) error { return d.Pair }),
		driven(RowStreamSession, func(d driver.Driver) func(context.Context, int) error { return d.Churn }),
		driven(RowStreamCounter, func(d driver.Driver) func(context.Context, int) error { return d.Count }),
		driven(RowStreamSemaphore, func(d driver.Driver) func(context.Context, int) error { return d.Permit }),
		{name: RowHandoff, isFor: keepsState, leastClients: contenders, open: openHandoff},
	}
}

// driven is a row of what a driver's callers do.
func driven(name string, op func(d driver.Driver) func(context.Context, int) error) loopRow {
	return loopRow{name: name, isFor: keepsState, open: openDriver(op)}
}

func writeRow() loopRow {
	return driven(RowStreamWrite, func(d driver.Driver) func(context.Context, int) error { return d.Write })
}

func keepsState(p peers.Product) bool { return !p.Stateless() }

// openStubs connects clients by the raw stubs of etcd's API.
func openStubs(
	op func(wire.Pool, workload.Data) workload.Op,
) func(context.Context, *Suite, peers.Product, []string, int) (loop, error) {
	return func(_ context.Context, s *Suite, _ peers.Product, endpoints []string, clients int) (loop, error) {
		pool, err := wire.DialPool(endpoints, min(clients, s.cfg.Conns))
		if err != nil {
			return loop{}, err
		}
		return loop{op: op(pool, s.data()), close: pool.Close}, nil
	}
}

// openDriver connects clients by the product's own driver.
func openDriver(
	op func(d driver.Driver) func(context.Context, int) error,
) func(context.Context, *Suite, peers.Product, []string, int) (loop, error) {
	return func(ctx context.Context, s *Suite, p peers.Product, endpoints []string, clients int) (loop, error) {
		d, err := driver.Open(ctx, p.Kind, s.driving(endpoints, clients))
		if err != nil {
			return loop{}, err
		}
		do := op(d)
		return loop{
			op:    func(ctx context.Context, client int, _ *rand.Rand) error { return do(ctx, client) },
			close: d.Close,
		}, nil
	}
}

// openHandoff makes every client a contender for one lock.
func openHandoff(ctx context.Context, s *Suite, p peers.Product, endpoints []string, clients int) (loop, error) {
	d, err := driver.Open(ctx, p.Kind, s.driving(endpoints, clients))
	if err != nil {
		return loop{}, err
	}
	lockers, err := driver.Lockers(ctx, d, clients, "contended")
	if err != nil {
		return loop{}, errors.Join(err, d.Close())
	}
	h := workload.NewHandoff(lockers)
	return loop{op: h.Op, close: d.Close, handoff: h}, nil
}

// driving is how a driver is configured for so many callers.
func (s *Suite) driving(endpoints []string, callers int) driver.Config {
	return driver.Config{
		Endpoints: endpoints, Callers: callers, Conns: s.cfg.Conns, ValueBytes: s.cfg.ValueBytes, TTL: s.cfg.SessionTTL,
	}
}
