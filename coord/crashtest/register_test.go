package crashtest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	registerClients = 4
	registerKeys    = 6
	// registerPause keeps the history small enough to be checked in seconds.
	registerPause = 5 * time.Millisecond
	// registerOps bounds the history of one client, however long the disturbance takes.
	registerOps = 3000
)

// registers are clients that read, write and compare-and-swap a few keys, and the history of it.
type registers struct {
	t       *testing.T
	stop    context.CancelFunc
	running sync.WaitGroup
	begin   time.Time

	mu      sync.Mutex
	history []porcupine.Operation
}

type registerInput struct {
	key         string
	kind        registerKind
	old, wanted string // old of a compare-and-swap only
}

type registerKind int

const (
	readRegister registerKind = iota
	writeRegister
	swapRegister
)

// registerOutput of an operation whose outcome is unknown is never looked at but for unknown.
type registerOutput struct {
	value   string // read
	swapped bool   // compare-and-swap
	unknown bool
}

// registerModel is one register, "" at first.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := op.Input.(registerInput).key
			parts[key] = append(parts[key], op)
		}
		var all [][]porcupine.Operation
		for _, part := range parts {
			all = append(all, part)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := input.(registerInput), output.(registerOutput)
		switch in.kind {
		case readRegister:
			return out.value == state, state
		case writeRegister:
			return true, in.wanted
		}
		swaps := state == in.old
		if swaps {
			return out.unknown || out.swapped, in.wanted
		}
		return out.unknown || !out.swapped, state
	},
}

// startRegisters starts the clients; the test's end stops them.
func startRegisters(t *testing.T, c *cluster) *registers {
	ctx, stop := context.WithCancel(context.Background())
	r := &registers{t: t, stop: stop, begin: time.Now()}
	for id := range registerClients {
		cli := c.dial()
		r.running.Go(func() { r.run(ctx, cli, id) })
	}
	t.Cleanup(r.finish)
	return r
}

func (r *registers) finish() {
	r.stop()
	r.running.Wait()
}

// run does operations one after the other. A client that does not know what came of one goes on as a new client.
func (r *registers) run(ctx context.Context, cli *clientv3.Client, id int) {
	last := make(map[string]string) // what was last seen
	client := id
	for n := 0; n < registerOps && ctx.Err() == nil; n++ {
		in := registerInput{
			key: fmt.Sprint("register/", rand.IntN(registerKeys)), kind: registerKind(rand.IntN(3)),
			wanted: fmt.Sprintf("%d.%d", id, n),
		}
		in.old = last[in.key]
		op := porcupine.Operation{ClientId: client, Input: in, Call: time.Since(r.begin).Nanoseconds()}
		out, err := doRegister(cli, in)
		op.Return, op.Output = time.Since(r.begin).Nanoseconds(), out
		if err != nil {
			op.Return, op.Output = math.MaxInt64, registerOutput{unknown: true}
			client += registerClients
		} else {
			last[in.key] = seen(in, out)
		}
		if err == nil || in.kind != readRegister {
			r.mu.Lock()
			r.history = append(r.history, op)
			r.mu.Unlock()
		}
		time.Sleep(registerPause)
	}
}

// seen is a value the register had.
func seen(in registerInput, out registerOutput) string {
	switch {
	case in.kind == readRegister:
		return out.value
	case in.kind == swapRegister && !out.swapped:
		return ""
	}
	return in.wanted
}

func doRegister(cli *clientv3.Client, in registerInput) (registerOutput, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	switch in.kind {
	case readRegister:
		got, err := cli.Get(ctx, in.key)
		if err != nil || len(got.Kvs) == 0 {
			return registerOutput{}, err
		}
		return registerOutput{value: string(got.Kvs[0].Value)}, nil
	case writeRegister:
		_, err := cli.Put(ctx, in.key, in.wanted)
		return registerOutput{}, err
	}
	same := clientv3.Compare(clientv3.Value(in.key), "=", in.old)
	if in.old == "" {
		same = clientv3.Compare(clientv3.Version(in.key), "=", 0)
	}
	resp, err := cli.Txn(ctx).If(same).Then(clientv3.OpPut(in.key, in.wanted)).Commit()
	if err != nil {
		return registerOutput{}, err
	}
	return registerOutput{swapped: resp.Succeeded}, nil
}

// check stops the clients and sees that what they saw is linearizable.
func (r *registers) check() {
	r.t.Helper()
	r.finish()
	unknown := 0
	for _, op := range r.history {
		if op.Output.(registerOutput).unknown {
			unknown++
		}
	}
	r.t.Logf("%d register operations, %d of unknown outcome", len(r.history), unknown)
	switch porcupine.CheckOperationsTimeout(registerModel, r.history, 3*patience) {
	case porcupine.Illegal:
		r.t.Error("the registers' history is not linearizable")
	case porcupine.Unknown:
		r.t.Errorf("whether the registers' history is linearizable could not be told within %v", 3*patience)
	}
}
