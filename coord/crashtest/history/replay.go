package history

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/proto/layout"
)

// Log rebuilds queues from the changes of their keys, in the order of the log. It knows the layout of the keys by
// itself: it shall not share a mistake with what it judges.
type Log struct {
	revision int64
	queues   map[string]*queue
}

// queue is one name: the keys that exist directly below it, and who held since the beginning.
type queue struct {
	entries map[string]*mvccpb.KeyValue
	used    bool // there was an entry of a session
	// taken are the entries that were put on another lease than their own, with their create revisions: to be put back
	// does not bring back what its session has lost.
	taken  map[string]int64
	reigns []Reign
}

// Reign is a change of a name's holder, or of the value of its entry. Token is 0 where nobody held from there on.
type Reign struct {
	Revision int64
	Key      string
	Token    int64
	Value    []byte
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{queues: make(map[string]*queue)} }

// Revision is that of the last event.
func (l *Log) Revision() int64 { return l.revision }

// Apply takes over the events of one revision, or of several in order. Keys that are in no queue are passed over.
func (l *Log) Apply(events []*mvccpb.Event) error { return eachRevision(events, l.applyRevision) }

// eachRevision calls fn with the events of each revision, in order.
func eachRevision(events []*mvccpb.Event, fn func(revision int64, events []*mvccpb.Event) error) error {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		if err := fn(events[0].Kv.ModRevision, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func (l *Log) applyRevision(revision int64, events []*mvccpb.Event) error {
	if revision <= l.revision {
		return fmt.Errorf("revision %d comes after %d", revision, l.revision)
	}
	l.revision = revision
	touched := make(map[string]*queue)
	for _, e := range events {
		name, ok := entryName(string(e.Kv.Key))
		if !ok {
			continue
		}
		q := l.queues[name]
		if q == nil {
			q = &queue{entries: make(map[string]*mvccpb.KeyValue), taken: make(map[string]int64)}
			l.queues[name] = q
		}
		touched[name] = q
		lease, entry := leaseOf(string(e.Kv.Key))
		q.used = q.used || entry
		if entry && e.Type == mvccpb.Event_PUT && e.Kv.Lease != lease && !lingers(e.Kv.Lease) {
			q.taken[string(e.Kv.Key)] = e.Kv.CreateRevision
		}
		delete(q.entries, string(e.Kv.Key))
		if e.Type == mvccpb.Event_PUT {
			q.entries[string(e.Kv.Key)] = e.Kv
		}
	}
	for name, q := range touched {
		if !q.used {
			continue
		}
		if err := q.reign(revision); err != nil {
			return fmt.Errorf("%q at revision %d: %w", name, revision, err)
		}
	}
	return nil
}

// entryName is the name whose queue the key is in: all before its last slash. In what is not of etcd's layout a lease
// and an owner id follow.
func entryName(key string) (string, bool) {
	slash := strings.LastIndexByte(key, '/')
	if slash <= 0 {
		return "", false
	}
	_, ok := leaseOf(key)
	return key[:slash], ok || !strings.HasPrefix(key, layout.Reserved)
}

// leaseOf is the lease in the key of an entry.
func leaseOf(key string) (int64, bool) {
	hex, _, _ := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], ".")
	id, err := strconv.ParseInt(hex, 16, 64)
	return id, err == nil && id > 0 && strconv.FormatInt(id, 16) == hex
}

// lingers says whether a lease is one on which the place of a holder that died is kept: those of no client begin so.
func lingers(lease int64) bool { return uint64(lease)>>40 == 0xec696e }

// reign notes who holds after a revision: the oldest key, if it is attached to the lease in its own name and nothing
// was created with it. A key of another form, two of one transaction, and the place of a holder that died, which stands
// on a lease that lingers, are granted to nobody, and nobody is behind them.
func (q *queue) reign(revision int64) error {
	now := Reign{Revision: revision}
	var first *mvccpb.KeyValue
	alone := false
	for _, kv := range q.entries {
		switch {
		case first == nil || kv.CreateRevision < first.CreateRevision:
			first, alone = kv, true
		case kv.CreateRevision == first.CreateRevision:
			alone = false
		}
	}
	if alone {
		key := string(first.Key)
		if lease, ok := leaseOf(key); ok && first.Lease == lease && q.taken[key] != first.CreateRevision {
			now.Key, now.Token, now.Value = key, first.CreateRevision, first.Value
		}
	}
	last := q.last()
	if now.Token == last.Token && now.Key == last.Key && bytes.Equal(now.Value, last.Value) {
		return nil
	}
	if highest := q.highest(); now.Token != 0 && now.Token != last.Token && now.Token <= highest {
		return fmt.Errorf("token %d after %d", now.Token, highest) // L2, E2
	}
	q.reigns = append(q.reigns, now)
	return nil
}

func (q *queue) last() Reign {
	if len(q.reigns) == 0 {
		return Reign{}
	}
	return q.reigns[len(q.reigns)-1]
}

// highest is the greatest token that ever held: tokens only grow, so it is that of the last holder.
func (q *queue) highest() int64 {
	for i := len(q.reigns) - 1; i >= 0; i-- {
		if q.reigns[i].Token != 0 {
			return q.reigns[i].Token
		}
	}
	return 0
}

// Granted checks a grant that a client was told of: the log must have had it.
func (l *Log) Granted(g Grant) error {
	if q := l.queues[g.Name]; q != nil {
		for _, r := range q.reigns {
			if r.Token == g.Token {
				return nil
			}
		}
	}
	return fmt.Errorf("token %d of %q was granted to a client and never held in the log", g.Token, g.Name)
}

// Waiting are the keys of the entries of a name at the end.
func (l *Log) Waiting(name string) []string {
	var keys []string
	if q := l.queues[name]; q != nil {
		for key := range q.entries {
			keys = append(keys, key)
		}
	}
	return keys
}

// Reigns are the changes of a name's holder, in order.
func (l *Log) Reigns(name string) []Reign {
	if q := l.queues[name]; q != nil {
		return q.reigns
	}
	return nil
}

// Observation is what an observer was told. Gap: it may have missed some before.
type Observation struct {
	Reign
	Gap bool
}

// Observed checks what one observer was told: each observation is the state that the log had at its revision, and none
// is left out between two, unless it says so (E3).
func (l *Log) Observed(name string, seen []Observation) error {
	reigns := append([]Reign{{}}, l.Reigns(name)...)
	at := -1
	for i, o := range seen {
		at++
		if i == 0 || o.Gap {
			at = inForce(reigns, o.Revision)
		}
		if at == len(reigns) || !same(reigns[at], o.Reign) {
			return fmt.Errorf("observation %d of %q, (token %d, %q) at revision %d, is not what the log has next", i,
				name, o.Token, o.Value, o.Revision)
		}
	}
	return nil
}

// inForce is the index of the last reign that began at the revision or before.
func inForce(reigns []Reign, revision int64) int {
	at := 0
	for at+1 < len(reigns) && reigns[at+1].Revision <= revision {
		at++
	}
	return at
}

func same(a, b Reign) bool { return a.Token == b.Token && bytes.Equal(a.Value, b.Value) }
