package history

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

func put(key, value string, lease, create, mod int64) *mvccpb.Event {
	return &mvccpb.Event{
		Kv: &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte(value), Lease: lease, CreateRevision: create, ModRevision: mod,
		},
	}
}

func del(key string, mod int64) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: mod}}
}

func reignsOf(t *testing.T, events ...*mvccpb.Event) *Log {
	t.Helper()
	l := NewLog()
	if err := l.Apply(events); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReplayFollowsTheQueue(t *testing.T) {
	l := reignsOf(t,
		put("a/1", "x", 1, 2, 2), put("a/2", "y", 2, 3, 3), put("a/b/3", "", 3, 4, 4), put("a/other", "", 0, 5, 5),
		put("a/1", "x2", 1, 2, 7), del("a/1", 8), del("a/2", 9))
	var got []string
	for _, r := range l.Reigns("a") {
		got = append(got, r.Key+string(r.Value))
	}
	if want := "a/1x a/1x2 a/2y "; strings.Join(got, " ") != want {
		t.Errorf("reigns are %q, not %q", strings.Join(got, " "), want)
	}
	if err := l.Granted(Grant{"a", 3}); err != nil {
		t.Error(err)
	}
	if l.Granted(Grant{"a", 4}) == nil || l.Granted(Grant{"a/b", 3}) == nil {
		t.Error("grants that never were are taken for granted")
	}
}

func TestReplayKeepsALingeringPlace(t *testing.T) {
	l := reignsOf(t, put("a/1", "", 1, 2, 2), put("a/2", "", 2, 3, 3), put("a/1", "", statemachine.FirstLingering+9, 2,
		4), del("a/1", 5))
	var tokens []int64
	for _, r := range l.Reigns("a") {
		tokens = append(tokens, r.Token)
	}
	if len(tokens) != 3 || tokens[0] != 2 || tokens[1] != 0 || tokens[2] != 3 {
		t.Errorf("tokens are %v", tokens)
	}
}

// TestReplayCountsForeignKeys: a key that is not the entry of the lease in its name is granted to nobody, as are two
// that were created at once, and all who came later wait.
func TestReplayCountsForeignKeys(t *testing.T) {
	l := reignsOf(t,
		put("a/", "", 0, 2, 2), put("a/1", "", 1, 3, 3), del("a/", 4),
		put("a/1", "", 9, 3, 5), put("a/1", "", 1, 3, 6), del("a/1", 7),
		put("a/2", "", 2, 8, 8), put("a/3", "", 3, 8, 8), put("a/4", "", 4, 9, 9), del("a/2", 10))
	var got []string
	for _, r := range l.Reigns("a") {
		got = append(got, fmt.Sprintf("%d:%s", r.Revision, r.Key))
	}
	if want := "4:a/1 5: 10:a/3"; strings.Join(got, " ") != want {
		t.Errorf("reigns are %q, not %q", strings.Join(got, " "), want)
	}
}

func TestReplayRefusesATokenThatFalls(t *testing.T) {
	l := NewLog()
	err := l.Apply([]*mvccpb.Event{put("a/1", "", 1, 5, 5), del("a/1", 6), put("a/2", "", 2, 4, 7)})
	if err == nil {
		t.Error("a token that falls is accepted")
	}
}

func TestObserved(t *testing.T) {
	l := reignsOf(t, put("e/1", "x", 1, 2, 2), put("e/2", "y", 2, 3, 3), del("e/1", 4), put("e/2", "z", 2, 3, 5),
		del("e/2", 6))
	o := func(revision, token int64, value string, gap bool) Observation {
		return Observation{Reign{Revision: revision, Token: token, Value: []byte(value)}, gap}
	}
	for _, c := range []struct {
		name string
		seen []Observation
		ok   bool
	}{
		{"all", []Observation{o(2, 2, "x", false), o(4, 3, "y", false), o(5, 3, "z", false), o(6, 0, "", false)}, true},
		{"from the middle", []Observation{o(4, 3, "y", false), o(5, 3, "z", false)}, true},
		{"a gap that is flagged", []Observation{o(3, 2, "x", false), o(5, 3, "z", true)}, true},
		{"a gap that is not", []Observation{o(3, 2, "x", false), o(5, 3, "z", false)}, false},
		{"the wrong order", []Observation{o(4, 3, "y", false), o(4, 2, "x", true)}, false},
		{"a value nobody had", []Observation{o(2, 2, "q", false)}, false},
		{"nobody at first", []Observation{o(1, 0, "", false), o(2, 2, "x", false)}, true},
	} {
		if err := l.Observed("e", c.seen); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
