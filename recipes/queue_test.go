package recipes_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

func TestBadRequestsAreRefused(t *testing.T) {
	s := recipestest.New()
	s.Leases[7] = true
	for what, c := range map[string]struct {
		elects bool
		req    *coordv1.Campaign
		want   error
	}{
		"empty name":     {false, &coordv1.Campaign{Lease: 7}, statemachine.ErrInvalid},
		"trailing slash": {false, &coordv1.Campaign{Name: "a/", Lease: 7}, statemachine.ErrInvalid},
		"long name": {true, &coordv1.Campaign{Name: strings.Repeat("a", 1025), Lease: 7},
			statemachine.ErrInvalid},
		"no lease": {false, &coordv1.Campaign{Name: "a"}, statemachine.ErrInvalid},
		"unknown lease": {true, &coordv1.Campaign{Name: "a", Lease: 8},
			statemachine.ErrLeaseNotFound},
		"slash in owner": {false, &coordv1.Campaign{Name: "a", Lease: 7, OwnerId: "x/y"},
			statemachine.ErrInvalid},
		"long owner": {false, &coordv1.Campaign{
			Name: "a", Lease: 7, OwnerId: strings.Repeat("x", 65),
		}, statemachine.ErrInvalid},
		"resume elsewhere": {false, &coordv1.Campaign{Name: "a", Lease: 9, ResumeToken: 3},
			statemachine.ErrLeaseNotFound},
	} {
		if _, err := enqueue(t, s, c.elects, c.req); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	for what, entry := range map[string]*coordv1.Guard{
		"no token":             {Name: "a", Key: "a/7"},
		"key of another lock":  {Name: "a", Key: "b/7", Token: 1},
		"key of a nested lock": {Name: "a", Key: "a/b/7", Token: 1},
		"empty name":           {Key: "/7", Token: 1},
	} {
		req := &coordv1.Release{Entries: []*coordv1.Guard{entry}}
		if err := call(t, s, recipes.Release, req, &coordv1.Released{}); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("release, %s: %v", what, err)
		}
	}
	for _, p := range recipes.Procedures() {
		if _, err := p.Run(s.Step(), []byte{0xff}); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("%s of garbage: %v", p.Name(), err)
		}
	}
}

func TestQueueJumpsOverNestedLocks(t *testing.T) {
	s := recipestest.New()
	s.Leases[7], s.Leases[8] = true, true
	for _, name := range []string{"a/b", "a", "a/c/d", "a0"} {
		if _, err := enqueue(t, s, false, &coordv1.Campaign{Name: name, Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = enqueue(t, s, false, &coordv1.Campaign{Name: "a", Lease: 8})
	q := recipes.Queue(s, "a")
	if len(q) != 2 || q[0].Key != "a/7" || q[1].Key != "a/8" {
		t.Fatalf("queue of a: %+v", q)
	}
}

// TestNoSpace: nobody new gets in, but who is there goes on: takes over its entry, and gives it back.
func TestNoSpace(t *testing.T) {
	s := recipestest.New()
	s.Leases[7], s.Leases[8] = true, true
	acquire := func(lease int64) (asked, error) {
		return enqueue(t, s, false, &coordv1.Campaign{Name: "a", Lease: lease})
	}
	first, err := acquire(7)
	must(t, err)
	s.NoSpace = true
	if _, err := acquire(8); !errors.Is(err, statemachine.ErrNoSpace) {
		t.Errorf("new entry: %v", err)
	}
	if again, err := acquire(7); err != nil || again.token != first.token || again.claim <= first.claim ||
		!again.holds {
		t.Errorf("taken over: %v, %v", again, err)
	}
	removed := &coordv1.Released{}
	entries := []*coordv1.Guard{{Name: "a", Key: "a/7", Token: first.token}}
	if err := call(t, s, recipes.Release, &coordv1.Release{Entries: entries, Claim: first.claim},
		removed); !errors.Is(err, recipes.ErrSuperseded) {
		t.Errorf("the clean-up after the first request: %v, %v", removed, err)
	}
	must(t, call(t, s, recipes.Release, &coordv1.Release{Entries: entries}, removed))
	if removed.Removed != 1 || len(recipes.Queue(s, "a")) != 0 {
		t.Errorf("release: %v", removed)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("job", "job/694d8a.x-1")
	f.Add("a", "a/b/7")
	f.Add("a", "a/07")
	f.Fuzz(func(t *testing.T, name, key string) {
		lease, owner, ok := layout.ParseEntryKey(name, key)
		if ok && (layout.EntryKey(name, lease, owner) != key || lease <= 0) {
			t.Fatalf("%q of %q: lease %x, owner %q", key, name, lease, owner)
		}
	})
}

// FuzzProcedures: no request panics, and a refused one has written nothing.
func FuzzProcedures(f *testing.F) {
	for _, req := range []proto.Message{
		&coordv1.Campaign{Name: "a", Lease: 7, OwnerId: "x", Value: []byte("v")},
		&coordv1.Acquire{Names: []string{"a"}, Lease: 7, ResumeToken: 2},
		&coordv1.Release{Entries: []*coordv1.Guard{{Name: "a", Key: "a/7", Token: 2}}, Claim: 2},
		&coordv1.Proclaim{Entry: &coordv1.Guard{Name: "a", Key: "a/7", Token: 2}},
		&coordv1.Acquire{Names: []string{"a", "b"}, OwnerId: "x"},
		&coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "a", Key: "a/7", Token: 2},
				{Name: "a", Key: "_coord/elections/a/7", Token: 3}},
		},
		&coordv1.Campaign{Name: "a", OwnerId: "x", Priority: 3},
		&coordv1.Proclaim{Entry: &coordv1.Guard{Name: "a", Key: "_coord/elections/a/7", Token: 3}},
		&coordv1.Transfer{Name: "a", To: "_coord/elections/a/8", Priority: 1},
		&coordv1.AskRelease{Name: "a"},
		&coordv1.ForceReleaseRequest{Name: "a", Reason: "r"},
	} {
		body, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := newStage(t, 7, 8)
		must(t, s.Put("a/7", "", 7))
		s.campaign(7, "a", 1)
		s.campaign(8, "a", 2)
		for _, noSpace := range []bool{false, true} {
			s.NoSpace = noSpace
			for _, p := range recipes.Procedures() {
				before := s.Rev
				if _, err := s.Call(p.Name(), body); err != nil && s.Rev != before {
					t.Fatalf("%s: %v, but revision %d after %d", p.Name(), err, s.Rev, before)
				}
				before = s.Rev
				if _, err := s.RequestBytes(7, 1, p.Kind(), body); err != nil && s.Rev != before {
					t.Fatalf("%s in a session: %v, but revision %d after %d", p.Name(), err, s.Rev, before)
				}
			}
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add("host-1", "k", "v")
	f.Add("", "", "=")
	f.Fuzz(func(t *testing.T, owner, k, v string) {
		value, err := recipes.EncodeIdentity(owner, map[string]string{k: v, "z": ""})
		if err != nil {
			if !errors.Is(err, statemachine.ErrInvalid) {
				t.Fatal(err)
			}
			recipes.DecodeIdentity([]byte(owner + k + v))
			return
		}
		gotOwner, labels := recipes.DecodeIdentity(value)
		valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
		want := map[string]string{valid(k): valid(v)}
		if k != "z" {
			want["z"] = ""
		}
		if gotOwner != valid(owner) || !maps.Equal(labels, want) {
			t.Fatalf("%q: %q %q, want %q %q", value, gotOwner, labels, owner, want)
		}
	})
}
