package datadir

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// incarnation is made up of a number.
func incarnation(n uint64) handshake.Incarnation {
	i, err := handshake.ParseIncarnation(fmt.Sprintf("%064x", n))
	if err != nil {
		panic(err)
	}
	return i
}

// record has a member met.
func record(d *Dir, member, n uint64) error {
	return d.PeerRecords(Cluster{}).Record(member, incarnation(n))
}

// metAs reports whether a member was met with that incarnation.
func metAs(d *Dir, member, n uint64) bool {
	i, met := d.PeerRecords(Cluster{}).Known(member)
	return met && i.Equal(incarnation(n))
}

func TestRecord(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	for range 2 {
		if err := record(d, 7, 70); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("member 7 has incarnation %s but was known as %s: its data directory was wiped or replaced",
		incarnation(71), incarnation(70)) + fixText
	var reason *handshake.Reason
	if err := record(d, 7, 71); !errors.As(err, &reason) || reason.Kind != handshake.Wiped || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	if err := d.ForgetPeer(7); err != nil {
		t.Fatal(err)
	}
	if err := record(d, 7, 71); err != nil {
		t.Errorf("after it was forgotten: %v", err)
	}
}

// TestFirstSightCounts: what others tell changes nothing that is known, and nothing about this member itself.
func TestFirstSightCounts(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	if err := record(d, 7, 70); err != nil {
		t.Fatal(err)
	}
	peerRecords := d.PeerRecords(Cluster{Removed: func(id uint64) bool { return id == 9 }})
	told := map[uint64]handshake.Fingerprint{
		7: incarnation(71).Fingerprint(), 8: incarnation(80).Fingerprint(), 9: incarnation(90).Fingerprint(),
		testIdentity.MemberID: incarnation(1).Fingerprint(),
	}
	if err := peerRecords.Learn(told); err != nil {
		t.Fatal(err)
	}
	want := map[uint64]handshake.Fingerprint{7: incarnation(70).Fingerprint(), 8: incarnation(80).Fingerprint()}
	if got := peerRecords.Heard(); !maps.Equal(got, want) {
		t.Errorf("known are %v", got)
	}
	if _, met := peerRecords.Known(8); met {
		t.Error("hearsay passes for a meeting")
	}
	if err := record(d, 8, 81); err == nil {
		t.Error("another directory was recorded than the one that others met")
	}
	if err := record(d, 8, 80); err != nil || !metAs(d, 8, 80) {
		t.Errorf("the one that others met was not recorded: %v", err)
	}
}

// TestRecordsAreBounded: members that somebody makes up make way for those that there are.
func TestRecordsAreBounded(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	k := d.PeerRecords(Cluster{Members: func() []Member { return []Member{{ID: 7}, {ID: 8}} }})
	if err := k.Record(7, incarnation(70)); err != nil {
		t.Fatal(err)
	}
	for id := uint64(1000); id < 1000+2*maxPeers; id++ {
		if err := k.Record(id, incarnation(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Record(8, incarnation(80)); err != nil {
		t.Fatal(err)
	}
	if n := len(k.Heard()); n > maxPeers || !metAs(d, 7, 70) || !metAs(d, 8, 80) {
		t.Errorf("%d members on record; member 7 is known: %v, member 8: %v", n, metAs(d, 7, 70), metAs(d, 8, 80))
	}
}

// meet connects one member to another as raft does, and returns what each makes of it.
func meet(t *testing.T, dials, accepts *Dir, c Cluster) (dialer, acceptor error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, conn := range []net.Conn{a, b} {
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := handshake.Accept(b, accepts.party(c), handshake.Raft)
		if err != nil {
			b.Close()
		}
		done <- err
	}()
	_, dialer = handshake.Dial(a, dials.party(c), handshake.Raft, accepts.Identity().MemberID)
	return dialer, <-done
}

// TestRaftIntroducesWhoWasDown: a member that was admitted without one of its peers meets it at the first connection,
// and tells it of the third.
func TestRaftIntroducesWhoWasDown(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.introduce(0, 1)
	late := c.start(2)
	for range 2 { // the second time as one that is known
		if d, a := meet(t, late, c.peers[0].d, c.view()); d != nil || a != nil {
			t.Fatalf("dialer: %v, acceptor: %v", d, a)
		}
	}
	if !c.knows(2, 0) || !c.knows(0, 2) || c.knows(2, 1) {
		t.Error("two members that were connected do not know each other, or know more than that")
	}
	if heard := late.PeerRecords(Cluster{}).Heard(); heard[c.peers[1].id] != c.peers[1].d.Incarnation().Fingerprint() {
		t.Errorf("heard of %v", heard)
	}
}

// TestRaftRefusesAnotherDirectory: the members met another directory of a member in between. What they say is proven,
// so that the member can count it.
func TestRaftRefusesAnotherDirectory(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.introduce(0, 1, 2)
	if err := c.peers[1].d.ForgetPeer(c.peers[0].id); err != nil {
		t.Fatal(err)
	}
	if err := record(c.peers[1].d, c.peers[0].id, 77); err != nil {
		t.Fatal(err)
	}
	err, _ := meet(t, c.peers[0].d, c.peers[1].d, c.view())
	var refused *handshake.RefusedError
	if !errors.As(err, &refused) || !refused.Proven || refused.Kind != handshake.Wiped ||
		refused.Peer != c.peers[1].id {
		t.Errorf("error is %v", err)
	}
	c.removed[c.peers[0].id] = true
	err, _ = meet(t, c.peers[0].d, c.peers[2].d, c.view())
	if !errors.As(err, &refused) || !refused.Proven || refused.Kind != handshake.Removed {
		t.Errorf("error is %v", err)
	}
}

// TestNothingIsWrittenAfterClose: the lock is given up, and a handshake that was under way would write into what
// belongs to another process.
func TestNothingIsWrittenAfterClose(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	d.Close()
	if err := record(d, 7, 70); err == nil {
		t.Error("a peer was recorded in a directory that was closed")
	}
}

// TestStartsAreNamed: two starts of a directory and of its copy differ, whatever they count.
func TestStartsAreNamed(t *testing.T) {
	o := options(t.TempDir())
	var all []uint64
	for range 3 {
		d := admitted(t, o, testIdentity)
		if all = append(all, d.Start()); d.Start() == 0 {
			t.Error("a start without a number")
		}
		d.Close()
	}
	if slices.Sort(all); len(slices.Compact(all)) != 3 {
		t.Errorf("three starts are named %x", all)
	}
}
