package watch

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/statemachine"
)

// record is what one watcher asked for and saw, over any number of streams. Responses of all its lives follow each
// other; a life begins with a created response.
type record struct {
	key, end         []byte
	noPut, noDelete  bool
	prev, fragmented bool
	responses        []*pb.WatchResponse
	starts           []statemachine.Revision // first revision due in each life
	final            statemachine.Revision   // everything up to it must have come, unless compacted
}

func (r *record) wants(e statemachine.Event) bool {
	if r.noPut && e.Type == mvccpb.Event_PUT || r.noDelete && e.Type == mvccpb.Event_DELETE {
		return false
	}
	k := e.Kv.Key
	switch {
	case len(r.end) == 0:
		return bytes.Equal(k, r.key)
	case bytes.Equal(r.end, []byte{0}):
		return bytes.Compare(k, r.key) >= 0
	default:
		return bytes.Compare(k, r.key) >= 0 && bytes.Compare(k, r.end) < 0
	}
}

// A validator checks one of the guarantees W1 to W9.
type validator func(*history, *record) error

var validators = map[string]validator{
	"ordered":      ordered,
	"unique":       unique,
	"reliable":     reliable,
	"atomic":       atomicRevisions,
	"resumable":    resumable,
	"bookmarkable": bookmarkable,
	"prev_kv":      previous,
	"filter":       filtered,
	"compaction":   compaction,
}

func check(h *history, r *record) error {
	for name, v := range validators {
		if err := v(h, r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// ordered (W1): revisions never go back.
func ordered(_ *history, r *record) error {
	last := int64(0)
	for _, resp := range r.responses {
		for _, e := range resp.Events {
			if e.Kv.ModRevision < last {
				return fmt.Errorf("event of revision %d after one of %d", e.Kv.ModRevision, last)
			}
			last = e.Kv.ModRevision
		}
	}
	return nil
}

// unique (W2): no event comes twice.
func unique(_ *history, r *record) error {
	type change struct {
		key      string
		revision int64
	}
	seen := make(map[change]bool)
	for _, resp := range r.responses {
		for _, e := range resp.Events {
			c := change{string(e.Kv.Key), e.Kv.ModRevision}
			if seen[c] {
				return fmt.Errorf("%v twice", c)
			}
			seen[c] = true
		}
	}
	return nil
}

// reliable (W3): between the start of a life and its last event, or the final revision for the last life, all that the
// watcher wants came, in the order of the change, and as it was.
func reliable(h *history, r *record) error {
	for n, life := range r.lives() {
		var got []*mvccpb.Event
		through := r.starts[n] - 1
		gone := false
		for _, resp := range life {
			got = append(got, resp.Events...)
			gone = gone || resp.CompactRevision != 0
		}
		if len(got) > 0 {
			through = got[len(got)-1].Kv.ModRevision
		}
		if n == len(r.starts)-1 && !gone {
			through = r.final
		}
		for revision := r.starts[n]; revision <= through; revision++ {
			for _, e := range h.events(revision) {
				if !r.wants(e) {
					continue
				}
				if len(got) == 0 {
					return fmt.Errorf("life %d: %s at %d is missing", n, e.Kv.Key, revision)
				}
				if got[0].Type != e.Type || !proto.Equal(got[0].Kv, e.Kv) {
					return fmt.Errorf("life %d: got %v, want %v", n, got[0], e)
				}
				got = got[1:]
			}
		}
		if len(got) > 0 {
			return fmt.Errorf("life %d: unexpected %v", n, got[0])
		}
	}
	return nil
}

// lives cuts the responses at the created ones.
func (r *record) lives() [][]*pb.WatchResponse {
	var lives [][]*pb.WatchResponse
	for _, resp := range r.responses {
		if resp.Created {
			lives = append(lives, nil)
		}
		lives[len(lives)-1] = append(lives[len(lives)-1], resp)
	}
	return lives
}

// atomicRevisions (W4): the events of a revision come in one response, or in fragments that follow each other.
func atomicRevisions(_ *history, r *record) error {
	last, open := int64(0), false
	for _, resp := range r.responses {
		if resp.Fragment && !r.fragmented {
			return fmt.Errorf("fragment not asked for: %v", resp.Header)
		}
		if open && len(resp.Events) == 0 {
			return fmt.Errorf("fragments interrupted by %v", resp)
		}
		if len(resp.Events) > 0 {
			if first := resp.Events[0].Kv.ModRevision; first == last && !open {
				return fmt.Errorf("revision %d in two responses", first)
			}
			last = resp.Events[len(resp.Events)-1].Kv.ModRevision
		}
		open = resp.Fragment
	}
	if open {
		return fmt.Errorf("last fragment is missing")
	}
	return nil
}

// resumable (W5): a life begins after the last event or bookmark of the one before, and later only where a compaction
// said so; with the other guarantees this makes all lives together complete.
func resumable(_ *history, r *record) error {
	next := r.starts[0]
	for n, life := range r.lives() {
		if r.starts[n] > next {
			return fmt.Errorf("life %d starts at %d, %d was due", n, r.starts[n], next)
		}
		next = r.starts[n]
		for _, resp := range life {
			if len(resp.Events) > 0 {
				next = resp.Events[len(resp.Events)-1].Kv.ModRevision + 1
			}
			next = max(next, resp.CompactRevision)
			if isBookmark(resp) {
				next = max(next, resp.Header.Revision+1)
			}
		}
	}
	return nil
}

// bookmarkable (W6): a header revision without events is a bookmark: no event up to it comes after it, all came before,
// and bookmarks never go back. A response with events is never ahead of its header.
func bookmarkable(h *history, r *record) error {
	for n, life := range r.lives() {
		bookmark, due := int64(0), r.starts[n]
		for _, resp := range life {
			for _, e := range resp.Events {
				if e.Kv.ModRevision <= bookmark {
					return fmt.Errorf("event of %d after bookmark %d", e.Kv.ModRevision, bookmark)
				}
				if e.Kv.ModRevision > resp.Header.Revision {
					return fmt.Errorf("event of %d under header %d", e.Kv.ModRevision, resp.Header.Revision)
				}
				due = e.Kv.ModRevision + 1
			}
			if !isBookmark(resp) {
				continue
			}
			if resp.Header.Revision < bookmark {
				return fmt.Errorf("bookmark %d after %d", resp.Header.Revision, bookmark)
			}
			bookmark = resp.Header.Revision
			for ; due <= bookmark; due++ {
				for _, e := range h.events(due) {
					if r.wants(e) {
						return fmt.Errorf("bookmark %d without event of %d", bookmark, due)
					}
				}
			}
		}
	}
	return nil
}

// previous (W7): prev_kv is there exactly if asked for, and is the version before. It may be missing only where that
// version may have been compacted when the event was read.
func previous(h *history, r *record) error {
	for _, resp := range r.responses {
		for _, e := range resp.Events {
			var want *mvccpb.KeyValue
			for _, t := range h.events(e.Kv.ModRevision) {
				if bytes.Equal(t.Kv.Key, e.Kv.Key) {
					want = t.PrevKv
				}
			}
			switch {
			case !r.prev && e.PrevKv != nil:
				return fmt.Errorf("prev_kv not asked for: %v", e)
			case r.prev && e.PrevKv == nil && want != nil && e.Kv.ModRevision-1 >= h.compacted:
				return fmt.Errorf("no prev_kv: %v", e)
			case e.PrevKv != nil && !proto.Equal(e.PrevKv, want):
				return fmt.Errorf("prev_kv %v, want %v", e.PrevKv, want)
			}
		}
	}
	return nil
}

// filtered (W8): nothing comes that was not asked for, and no response with events is empty by filtering.
func filtered(_ *history, r *record) error {
	for _, resp := range r.responses {
		for _, e := range resp.Events {
			if !r.wants(statemachine.Event{Type: e.Type, Kv: e.Kv}) {
				return fmt.Errorf("unwanted %v", e)
			}
		}
	}
	return nil
}

// compaction (W9): a watcher is ended by the server only by saying the compacted revision, which is beyond what it
// still needed, and after that nothing comes.
func compaction(_ *history, r *record) error {
	for n, life := range r.lives() {
		ended, next := false, r.starts[n]
		for _, resp := range life {
			if ended {
				return fmt.Errorf("life %d: %v after the end", n, resp)
			}
			if len(resp.Events) > 0 {
				next = resp.Events[len(resp.Events)-1].Kv.ModRevision + 1
			}
			if resp.Canceled && resp.CompactRevision == 0 {
				return fmt.Errorf("life %d: ended without a compacted revision: %v", n, resp)
			}
			if resp.Canceled && resp.CompactRevision <= next {
				return fmt.Errorf("life %d: compacted at %d though it needed %d", n, resp.CompactRevision, next)
			}
			ended = resp.Canceled
		}
	}
	return nil
}

// isBookmark reports whether the response tells progress and nothing else.
func isBookmark(r *pb.WatchResponse) bool { return !r.Created && !r.Canceled && len(r.Events) == 0 }
