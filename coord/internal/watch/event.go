package watch

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/statemachine"
)

// eventsField is the number of the field WatchResponse.events.
const eventsField = 11

// event is a change of a key, together with its encoding as one element of WatchResponse.events. The encodings are made
// by the hub goroutine on first use and shared by all watchers; they never change afterwards.
type event struct {
	statemachine.Event
	plain    []byte // without prev_kv
	complete []byte // with prev_kv
}

// commit is one revision with all its events in order.
type commit struct {
	revision statemachine.Revision
	events   []*event
}

// cost estimates the bytes of memory that events keep alive.
func cost(events []statemachine.Event) int {
	const overhead = 256 // structs and slice headers
	n := 0
	for i := range events {
		n += overhead + len(events[i].Kv.Key) + len(events[i].Kv.Value)
		if s := events[i].Sweep; s != nil {
			n += s.Size()
		}
		if prev := events[i].PrevKv; prev != nil {
			n += len(prev.Key) + len(prev.Value)
		}
	}
	return n
}

// wrap makes shareable events.
func wrap(events []statemachine.Event) []*event {
	backing := make([]event, len(events))
	list := make([]*event, len(events))
	for i := range events {
		backing[i].Event = events[i]
		list[i] = &backing[i]
	}
	return list
}

// split groups events, which are in order of revision, into commits, leaving out revisions up to after.
func split(events []statemachine.Event, after statemachine.Revision) []commit {
	for len(events) > 0 && events[0].Kv.ModRevision <= after {
		events = events[1:]
	}
	var commits []commit
	list := wrap(events)
	for len(list) > 0 {
		revision, n := list[0].Kv.ModRevision, 1
		for n < len(list) && list[n].Kv.ModRevision == revision {
			n++
		}
		commits = append(commits, commit{revision, list[:n:n]})
		list = list[n:]
	}
	return commits
}

// isCreate reports whether the event made its key: such an event has no previous version.
func (e *event) isCreate() bool {
	return e.Type == mvccpb.Event_PUT && e.Kv.CreateRevision == e.Kv.ModRevision
}

// encode makes sure that wire(prev) is there. For the hub goroutine only.
func (e *event) encode(prev bool) {
	switch {
	case prev && e.complete == nil && e.PrevKv != nil && !e.isCreate():
		e.complete = element(&mvccpb.Event{Type: e.Type, Kv: e.Kv, PrevKv: e.PrevKv})
	case prev && e.complete == nil:
		e.encode(false)
		e.complete = e.plain
	case !prev && e.plain == nil:
		e.plain = element(&mvccpb.Event{Type: e.Type, Kv: e.Kv})
	}
}

// wire returns the encoding that encode(prev) made.
func (e *event) wire(prev bool) []byte {
	if prev {
		return e.complete
	}
	return e.plain
}

// element encodes an event as one element of the field WatchResponse.events, with tag and length.
func element(e *mvccpb.Event) []byte {
	size := proto.Size(e)
	b := make([]byte, 0, protowire.SizeTag(eventsField)+protowire.SizeBytes(size))
	b = protowire.AppendTag(b, eventsField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, e)
	if err != nil {
		// Marshalling fails only on required fields and on invalid UTF-8 in strings; an event has neither.
		panic(fmt.Sprintf("watch: encode event of key %q: %v", e.Kv.Key, err))
	}
	return b
}
