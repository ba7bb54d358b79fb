package service

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// TestSlowObserver: one that is too far behind gets the last state, flagged, and then everything again; one that keeps up
// is not concerned.
func TestSlowObserver(t *testing.T) {
	l := newLine("job", func(*line) bool { return false })
	l.load(nil, 1)
	slow, quick := l.watch(), l.watch()
	rev := statemachine.Revision(1)
	lead := func() string {
		rev++
		value := fmt.Sprint("value ", rev)
		kv := &mvccpb.KeyValue{Key: []byte("job/7"), Value: []byte(value), Lease: 7, CreateRevision: 2, ModRevision: rev}
		l.deliver(Delivery{Revision: rev, Events: []statemachine.Event{{Type: mvccpb.Event_PUT, Kv: kv}}})
		return value
	}
	if first, err := l.take(quick); err != nil || len(first) != 1 || first[0].Leader != nil {
		t.Fatalf("at the start: %v, %v", first, err)
	}
	var last string
	for range maxObserved + 10 {
		last = lead()
		if got, err := l.take(quick); err != nil || len(got) != 1 || got[0].Gap || string(got[0].Leader.Value) != last {
			t.Fatalf("quick observer: %v, %v, want %q", got, err, last)
		}
	}
	got, err := l.take(slow)
	if err != nil || len(got) == 0 || len(got) > maxObserved || !got[0].Gap || string(got[len(got)-1].Leader.Value) != last {
		t.Fatalf("slow observer: %d events, %v", len(got), err)
	}
	for i, ev := range got[1:] {
		if ev.Gap || ev.Revision != got[0].Revision+int64(i)+1 {
			t.Errorf("after the gap, event %d: %v", i, ev)
		}
	}
	last = lead()
	if got, err := l.take(slow); err != nil || len(got) != 1 || got[0].Gap || string(got[0].Leader.Value) != last {
		t.Errorf("slow observer later: %v, %v", got, err)
	}
}

// TestLineAgainstScan: a line that is fed by changes equals the queue that a scan finds, at each revision.
func TestLineAgainstScan(t *testing.T) {
	l := newLine("job", func(*line) bool { return false })
	l.load([]recipes.Entry{{Key: "job/1", Token: 5, Claim: 5, Lease: 1}, {Key: "job/2", Token: 7, Claim: 7, Lease: 2}}, 9)
	put := func(rev, created, lease int64, key string) Delivery {
		return Delivery{Revision: rev, Events: []statemachine.Event{{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{
			Key: []byte(key), Lease: lease, CreateRevision: created, ModRevision: rev}}}}
	}
	for _, c := range []struct {
		d    Delivery
		want string
	}{
		{put(8, 8, 3, "job/3"), "[job/1 job/2]"}, // older than what was read
		{put(10, 10, 3, "job/3"), "[job/1 job/2 job/3]"},
		{put(11, 11, 4, "job/x/4"), "[job/1 job/2 job/3]"},
		{put(12, 5, 0, "job/1"), "[job/2 job/3]"}, // detached from its lease
		{put(13, 5, 1, "job/1"), "[job/1 job/2 job/3]"},
		{put(14, 7, 2, "job/2"), "[job/1 job/2 job/3]"}, // taken over
	} {
		l.deliver(c.d)
		var keys []string
		for at := l.order.Front(); at != nil; at = at.Next() {
			keys = append(keys, at.Value.(recipes.Entry).Key)
		}
		if got := fmt.Sprint(keys); got != c.want || len(l.entries) != len(keys) {
			t.Errorf("at revision %d: %s, want %s", c.d.Revision, got, c.want)
		}
	}
}
