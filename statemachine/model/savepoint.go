package model

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// attempt does what can be refused. If it is, everything is again as a copy from before says.
func (m *Model) attempt(do func() error) error {
	before, sessions, out := m.Clone(), slices.Clone(m.sessions), *m.out
	err := do()
	if err != nil {
		for i, s := range sessions { // whoever runs has its session at hand
			*s = *before.sessions[i]
		}
		looks := m.looks // were taken
		*m, *m.out = *before, out
		m.looks = looks
		m.sessions = sessions
	}
	return err
}

// step does one step of an entry, with the reactions to what it deletes, and closes its revision.
func (m *Model) step(do func() error) error {
	m.frees = false
	err := m.attempt(func() error {
		if err := do(); err != nil {
			return err
		}
		return m.react()
	})
	m.close()
	return err
}

// run runs one command. Ticks and requests consist of steps of their own.
func (m *Model) run(c raftv1.Command) (response any, err error) {
	m.by = c.By
	switch {
	case c.Kind == raftv1.KindRequests, c.Kind == raftv1.KindTick:
		return m.command(c)
	case m.refuses():
		return nil, statemachine.ErrRefusedByOperator
	}
	err = m.step(func() (err error) {
		response, err = m.command(c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// refuses reports whether the operator has refused what is running.
func (m *Model) refuses() bool {
	whole := m.running
	whole.Request = 0
	return slices.Contains(m.denied, m.running) || slices.Contains(m.denied, whole)
}

// refusesLease reports whether the operator has refused the end of a lease, counted from 1, by the tick that is
// running.
func (m *Model) refusesLease(number int) bool {
	lease := m.running
	lease.Request = uint32(number)
	return slices.Contains(m.denied, lease)
}

// react runs the reactor, queue by queue, for the keys with its prefix that the running step deleted. What it cannot do
// refuses the step, unless that frees something: then that reaction alone is undone, and the queue is broken.
func (m *Model) react() error {
	from := m.reacted
	m.reacted = len(m.out.Events)
	r := m.program.Reactor
	if r == nil {
		return nil
	}
	var queues []string // in the order of their first deletion
	were := map[string][]*mvccpb.KeyValue{}
	told := map[string]bool{}
	for _, e := range m.out.Events[from:m.reacted] {
		key := string(e.Kv.Key)
		if e.Type != mvccpb.Event_DELETE || e.PrevKv == nil || told[key] || !bytes.HasPrefix(e.Kv.Key, r.Prefix()) {
			continue
		}
		told[key] = true
		queue := r.QueueOf(e.Kv.Key)
		if were[queue] == nil {
			queues = append(queues, queue)
		}
		were[queue] = append(were[queue], e.PrevKv)
	}
	for _, queue := range queues {
		err := m.attempt(func() error {
			if m.refuses() { // a tick
				return statemachine.ErrRefusedByOperator
			}
			return r.Deleted(&step{m: m, reaction: true}, queue, were[queue])
		})
		switch {
		case err == nil:
			m.mend(queue)
		case !m.frees:
			return statemachine.NewQueueBroken(queue, err)
		default:
			m.breakQueue(queue, err)
		}
	}
	m.reacted = len(m.out.Events)
	return nil
}

func (m *Model) isBroken(queue string) bool {
	return slices.ContainsFunc(m.broken, func(q statemachine.BrokenQueue) bool { return q.Queue == queue })
}

func (m *Model) breakQueue(queue string, err error) {
	if !m.isBroken(queue) {
		m.broken = append(slices.Clone(m.broken), statemachine.BrokenQueue{
			Queue: queue, Index: m.index, Revision: m.Revision(), Err: err.Error(),
		})
		slices.SortFunc(m.broken, func(a, b statemachine.BrokenQueue) int {
			return bytes.Compare([]byte(a.Queue), []byte(b.Queue))
		})
	}
}

func (m *Model) mend(queue string) {
	m.broken = slices.DeleteFunc(slices.Clone(m.broken), func(q statemachine.BrokenQueue) bool {
		return q.Queue == queue
	})
}

// BrokenQueues are the queues that a reaction failed for, by name.
func (m *Model) BrokenQueues() []statemachine.BrokenQueue { return m.broken }
