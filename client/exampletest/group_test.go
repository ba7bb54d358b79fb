package exampletest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// names describes members: ids with their data.
func names(members []client.Member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.ID+string(m.Data))
	}
	return strings.Join(list, " ")
}

// described is a change as text: +joined -left ~updated =members.
func described(c client.GroupChange) string {
	var parts []string
	for _, part := range []struct {
		mark    string
		members []client.Member
	}{{"+", c.Joined}, {"-", c.Left}, {"~", c.Updated}} {
		ids := strings.Fields(names(part.members))
		slices.Sort(ids)
		for _, id := range ids {
			parts = append(parts, part.mark+id)
		}
	}
	if c.Gap {
		parts = append(parts, "gap")
	}
	return strings.Join(append(parts, "="), " ") + names(c.Members)
}

// watching yields descriptions of the changes of a group.
func watching(t *testing.T, c *client.Client, group string) func(want string) {
	t.Helper()
	changes, ctx := make(chan string, 100), bounded(t)
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // after ctx has ended
	running.Go(func() {
		defer close(changes)
		for c, err := range c.Group(group).Watch(ctx) {
			if err != nil {
				return
			}
			changes <- described(c)
		}
	})
	return func(want string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("change %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("no change, want %q", want)
		}
	}
}

func TestGroup(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, group := bounded(t), c.Group("sdk/group")
		own := newSession(t, c, time.Minute)
		next := watching(t, c, "sdk/group")
		next("=")
		b, err := group.Join(ctx, "b", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		next("+b1 =b1")
		a, err := own.Group("sdk/group").Join(ctx, "a", nil)
		if err != nil || a.Joined() <= b.Joined() || a.ID() != "a" || a.Session() != own {
			t.Fatalf("join: %+v, %v", a, err)
		}
		next("+a =b1 a")
		_, err = own.Group("sdk/group").Join(ctx, "b", nil)
		wants(t, "join as somebody else", err, client.ErrMemberExists)
		if again, err := group.Join(ctx, "b", []byte("2")); err != nil || again.Joined() != b.Joined() {
			t.Errorf("join again: %+v, %v", again, err)
		}
		next("~b2 =b2 a")
		if err := a.Update(ctx, []byte("9")); err != nil {
			t.Error(err)
		}
		next("~a9 =b2 a9")
		if members, rev, err := group.Members(ctx); err != nil || names(members) != "b2 a9" || rev == 0 {
			t.Errorf("members: %v, %v", members, err)
		}
		if _, err := c.Group("sdk/group/nested").Join(ctx, "x", nil); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := b.Leave(ctx); err != nil {
				t.Error(err)
			}
		}
		next("-b2 =a9")
		wants(t, "update after leaving", b.Update(ctx, nil), client.ErrNotSet)
		if _, err := own.Group("sdk/group").Join(ctx, "b", nil); err != nil {
			t.Fatal(err)
		}
		next("+b =a9 b")
		if err := b.Leave(ctx); err != nil {
			t.Errorf("leave once more, when another is the member: %v", err)
		}
		wants(t, "update when another is the member", b.Update(ctx, nil), client.ErrMemberExists)
		if err := own.Close(ctx); err != nil {
			t.Fatal(err)
		}
		<-a.Done()
		wants(t, "why it ended", a.Err(), client.ErrSessionClosed)
		next("-a9 -b =")
		for _, bad := range []string{"", "a/b", strings.Repeat("x", 129), "ä"} {
			_, err := group.Join(ctx, bad, nil)
			wants(t, "join as "+bad, err, client.ErrInvalid)
		}
		_, err = group.Join(ctx, "big", make([]byte, 65537))
		wants(t, "join with much data", err, client.ErrInvalid)
		_, _, err = c.Group("").Members(ctx)
		wants(t, "members of nothing", err, client.ErrInvalid)
		for _, err := range c.Group("").Watch(ctx) {
			wants(t, "watch nothing", err, client.ErrInvalid)
		}
	})
}

// TestGroupIsWatchedThroughCompactions: what a watcher could not see while it was cut off comes as one difference,
// flagged: who left and joined again is in both parts. What it could see after a broken connection comes as it was.
func TestGroupIsWatchedThroughCompactions(t *testing.T) {
	fake := coordtest.NewFake(t)
	w := newWire(t, fake.Endpoint())
	apart, direct, ctx := dial(t, w.address()), dial(t, fake.Endpoint()), bounded(t)
	s := newSession(t, direct, time.Hour)
	join := func(id, data string) *client.Membership {
		t.Helper()
		m, err := s.Group("g").Join(ctx, id, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	leave := func(m *client.Membership) {
		t.Helper()
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
	}
	a, b, _ := join("a", "1"), join("b", "1"), join("c", "1")
	next := watching(t, apart, "g")
	next("+a1 +b1 +c1 =a1 b1 c1")
	w.silence(true)
	w.cut()
	leave(a)
	leave(b)
	join("a", "1")
	join("c", "2")
	join("d", "1")
	compact(t, ctx, direct)
	w.silence(false)
	next("+a1 +d1 -a1 -b1 ~c2 gap =c2 a1 d1")
	w.silence(true)
	w.cut()
	join("e", "1")
	join("e", "2")
	w.silence(false)
	next("+e1 =c2 a1 d1 e1")
	next("~e2 =c2 a1 d1 e2")
}

// TestGroupOfTheDead: all members of a session leave at one revision when its TTL is over, and its ids are free then.
func TestGroupOfTheDead(t *testing.T) {
	fake, c := clocked(t)
	ctx := bounded(t)
	other := dial(t, fake.Endpoint())
	dead, lives := newSession(t, c, 10*time.Second), newSession(t, other, time.Hour*24)
	for i := range 3 {
		if _, err := dead.Group("g").Join(ctx, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	next := watching(t, other, "g")
	next("+0 +1 +2 =0 1 2")
	_, err := lives.Group("g").Join(ctx, "1", nil)
	wants(t, "the id of one who lives", err, client.ErrMemberExists)
	fake.Advance(time.Minute)
	next("-0 -1 -2 =")
	if _, err := lives.Group("g").Join(ctx, "1", nil); err != nil {
		t.Errorf("the id of one who died: %v", err)
	}
	next("+1 =1")
}
