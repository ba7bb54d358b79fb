package handshake

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

func incarnation(n uint64) Incarnation {
	i, err := ParseIncarnation(fmt.Sprintf("%064x", n))
	if err != nil {
		panic(err)
	}
	return i
}

// side is one member of a handshake under test.
func side(member uint64, known ...uint64) Party {
	m := &Memory{}
	for _, id := range known {
		if err := m.Record(id, incarnation(id)); err != nil {
			panic(err)
		}
	}
	return Party{
		Self: Identity{
			Cluster: 7, Member: member, Incarnation: incarnation(member), Boot: 1, Start: member,
		}, PeerRecords: m,
	}
}

// wire is a connection that records what is written to it and may change it.
type wire struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer
	edit func([]byte) []byte
}

func (w *wire) Write(b []byte) (int, error) {
	out := b
	if w.edit != nil {
		out = w.edit(slices.Clone(b))
	}
	w.mu.Lock()
	w.sent.Write(out)
	w.mu.Unlock()
	if _, err := w.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// outcome is what came of a handshake and what went over the wire.
type outcome struct {
	dialer, acceptor error
	dialed, accepted []byte
}

// shake runs one handshake; edits change what each side sends.
func shake(t testing.TB, d, a Party, p Purpose, edits ...func([]byte) []byte) outcome {
	t.Helper()
	c1, c2 := net.Pipe()
	w1, w2 := &wire{Conn: c1}, &wire{Conn: c2}
	for i, edit := range edits {
		[]*wire{w1, w2}[i].edit = edit
	}
	for _, c := range []net.Conn{c1, c2} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var o outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c2.Close()
		_, o.acceptor = Accept(w2, a, Raft, Snapshot, Ask, Introduce)
	}()
	_, o.dialer = Dial(w1, d, p, a.Self.Member)
	c1.Close()
	<-done
	o.dialed, o.accepted = w1.sent.Bytes(), w2.sent.Bytes()
	return o
}

// TestVersions: a member takes part only if its release knows the version that the cluster is at, whichever side knows
// that.
func TestVersions(t *testing.T) {
	at := func(member uint64, v raftv1.Version) Party {
		p := side(member, 1, 2)
		p.PeerRecords.(*Memory).Cluster = v
		return p
	}
	for _, v := range []raftv1.Version{0, raftv1.MinVersion, raftv1.MaxVersion} {
		shake(t, at(1, v), at(2, raftv1.MaxVersion), Raft).mustPass(t)
		shake(t, at(1, 0), at(2, v), Raft).mustPass(t)
	}
	const later = raftv1.MaxVersion + 1
	for _, purpose := range []Purpose{Raft, Snapshot, Introduce} {
		shake(t, at(1, later), at(2, 0), purpose).mustRefuse(t, OtherVersion, true, false)
		shake(t, at(1, 0), at(2, later), purpose).mustRefuse(t, OtherVersion, true, false)
	}
}

// TestHistories: members of two histories exchange nothing; who knows of none yet takes part in either.
func TestHistories(t *testing.T) {
	of := func(member, history uint64) Party {
		p := side(member, 1, 2)
		p.PeerRecords.(*Memory).Begun = history
		return p
	}
	for _, purpose := range []Purpose{Raft, Snapshot, Introduce} {
		shake(t, of(1, 7), of(2, 7), purpose).mustPass(t)
		shake(t, of(1, 0), of(2, 7), purpose).mustPass(t)
		shake(t, of(1, 7), of(2, 0), purpose).mustPass(t)
		shake(t, of(1, 7), of(2, 8), purpose).mustRefuse(t, OtherHistory, true, false)
	}
}

func (o outcome) mustPass(t *testing.T) {
	t.Helper()
	if o.dialer != nil || o.acceptor != nil {
		t.Fatalf("dialer: %v, acceptor: %v", o.dialer, o.acceptor)
	}
}

// mustRefuse checks that a side refused for this reason, and that the dialer knows whether that was proven.
func (o outcome) mustRefuse(t *testing.T, k Kind, local, proven bool) {
	t.Helper()
	var r *RefusedError
	if !errors.As(o.dialer, &r) || r.Kind != k || r.Local != local || r.Proven != proven {
		t.Errorf("dialer: %#v; want a refusal of kind %d, local %v, proven %v", o.dialer, k, local, proven)
	}
	if o.acceptor == nil {
		t.Error("the acceptor admitted the dialer")
	}
}

// shows says whether a member's number is in what was sent.
func shows(sent []byte, member uint64) bool {
	i := incarnation(member)
	return bytes.Contains(sent, i.n[:]) || bytes.Contains(sent, []byte(i.Reveal()))
}

// TestNumberIsSentOnce: whoever knows whom, the two pass, know each other afterwards, and the number is in clear only
// when two meet that have never met.
func TestNumberIsSentOnce(t *testing.T) {
	for _, p := range []Purpose{Raft, Snapshot, Introduce} {
		for _, dKnows := range []bool{false, true} {
			for _, aKnows := range []bool{false, true} {
				d, a := side(1), side(2)
				if dKnows {
					d = side(1, 2)
				}
				if aKnows {
					a = side(2, 1)
				}
				first := shake(t, d, a, p)
				first.mustPass(t)
				strangers := !dKnows && !aKnows
				if shows(first.dialed, 1) != strangers || shows(first.accepted, 2) != strangers {
					t.Errorf("dialer knows %v, acceptor knows %v: number sent in clear: %v, %v",
						dKnows, aKnows, shows(first.dialed, 1), shows(first.accepted, 2))
				}
				if shows(first.accepted, 1) || shows(first.dialed, 2) {
					t.Error("a number was sent back")
				}
				if i, met := d.PeerRecords.Known(2); !met || !i.Equal(incarnation(2)) {
					t.Error("the dialer does not know the acceptor")
				}
				if i, met := a.PeerRecords.Known(1); !met || !i.Equal(incarnation(1)) {
					t.Error("the acceptor does not know the dialer")
				}
				again := shake(t, a, d, p)
				again.mustPass(t)
				if all := append(again.dialed, again.accepted...); shows(all, 1) || shows(all, 2) {
					t.Error("a number that is on record was sent")
				}
			}
		}
	}
}

// TestAskLeavesNoTrace: it shows the fingerprint, by which it is refused or not.
func TestAskLeavesNoTrace(t *testing.T) {
	d, a := side(1), side(2)
	o := shake(t, d, a, Ask)
	o.mustPass(t)
	_, dMet := d.PeerRecords.Known(2)
	if _, aMet := a.PeerRecords.Known(1); dMet || aMet || shows(append(o.dialed, o.accepted...), 1) ||
		shows(append(o.dialed, o.accepted...), 2) {
		t.Error("a question left a trace or showed a number")
	}
	if err := a.PeerRecords.Learn(map[uint64]Fingerprint{1: incarnation(9).Fingerprint()}); err != nil {
		t.Fatal(err)
	}
	shake(t, d, a, Ask).mustRefuse(t, Wiped, false, false)
	shake(t, d, a, Introduce).mustRefuse(t, Wiped, false, false)
}

// TestKnowledgeSpreads: a new member hears of those that the acceptor knows; one that is not new believes only who is
// proven.
func TestKnowledgeSpreads(t *testing.T) {
	fresh := side(1)
	fresh.Self.Fresh = true
	for _, tc := range []struct {
		d     Party
		hears bool
	}{{fresh, true}, {side(1, 2), true}, {side(1), false}} {
		shake(t, tc.d, side(2, 1, 3), Raft).mustPass(t)
		heard := tc.d.PeerRecords.Heard()
		if f, ok := heard[3]; ok != tc.hears || ok && f != incarnation(3).Fingerprint() {
			t.Errorf("heard of %v, want of member 3: %v", heard, tc.hears)
		}
		if _, ok := heard[1]; ok {
			t.Error("heard of itself")
		}
		if _, met := tc.d.PeerRecords.Known(3); met {
			t.Error("hearsay passes for a meeting")
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	other := func(edit func(*Identity), known ...uint64) Party {
		p := side(1, known...)
		edit(&p.Self)
		return p
	}
	t.Run("other cluster", func(t *testing.T) {
		shake(t, other(func(i *Identity) { i.Cluster = 8 }, 2), side(2, 1), Raft).mustRefuse(t, OtherCluster, true,
			false)
	})
	t.Run("wiped", func(t *testing.T) {
		shake(t, other(func(i *Identity) {
			i.Incarnation = incarnation(9)
		}), side(2, 1), Raft).mustRefuse(t, Wiped, false, false)
	})
	t.Run("replaced, and knows the acceptor", func(t *testing.T) {
		shake(t, other(func(i *Identity) {
			i.Incarnation = incarnation(9)
		}, 2), side(2, 1), Raft).mustRefuse(t, Wiped, false, true)
	})
	t.Run("acceptor was wiped", func(t *testing.T) {
		a := side(2)
		a.Self.Incarnation = incarnation(9)
		shake(t, side(1, 2), a, Raft).mustRefuse(t, Wiped, true, false)
	})
	t.Run("same member", func(t *testing.T) {
		shake(t, side(2), side(2), Raft).mustRefuse(t, Refused, true, false)
	})
	t.Run("removed", func(t *testing.T) {
		a := side(2)
		a.PeerRecords.(*Memory).Refuse = func(h Hello) error { return RefuseRemoved(h.Member) }
		shake(t, side(1, 2), a, Raft).mustRefuse(t, Removed, false, true)
		shake(t, side(1), a, Raft).mustRefuse(t, Removed, false, false)
	})
	t.Run("copy", func(t *testing.T) {
		a := side(2, 1)
		a.Contend = func(Hello) error { return Refuse(Copy, "another one answers") }
		shake(t, side(1, 2), a, Raft).mustRefuse(t, Copy, false, true)
	})
}

// forger claims to be a member whose number it does not know: it has a fingerprint from somewhere.
type forger struct{ Fingerprint }

// forge makes the dialer's messages say another fingerprint than that of its incarnation.
func (f forger) forge(own Incarnation) func([]byte) []byte {
	was := own.Fingerprint()
	return func(b []byte) []byte { return bytes.ReplaceAll(b, was[:], f.Fingerprint[:]) }
}

// TestForgedHelloIsRefused: who knows cluster, member, boot, start and fingerprint, but not the number, gets nowhere.
func TestForgedHelloIsRefused(t *testing.T) {
	for _, knows := range [][]uint64{nil, {2}} {
		d := side(1, knows...)
		d.Self.Incarnation = incarnation(99)
		a := side(2, 1)
		o := shake(t, d, a, Raft, forger{incarnation(1).Fingerprint()}.forge(incarnation(99)))
		if o.acceptor == nil || o.dialer == nil || shows(o.accepted, 2) {
			t.Errorf("a forged hello: dialer %v, acceptor %v, number shown %v", o.dialer, o.acceptor,
				shows(o.accepted, 2))
		}
	}
	// The same by one that proves all else right: its own number under the fingerprint of the other.
	c1, c2 := net.Pipe()
	defer c1.Close()
	done := make(chan error, 1)
	a := side(2, 1)
	go func() {
		_, err := Accept(c2, a, Raft)
		c2.Close()
		done <- err
	}()
	d := side(1)
	d.Self.Incarnation = incarnation(99)
	s, err := d.newExchange(c1, dialer, Raft, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.ours.Fingerprint = incarnation(1).Fingerprint()
	if _, err := s.dial(); err == nil {
		t.Error("a forger was let in")
	}
	if err := <-done; err == nil {
		t.Error("a forger was admitted")
	}
	// The acceptor forges: it neither passes nor is told the dialer's number, whatever it claims to know.
	a = side(2)
	a.Self.Incarnation = incarnation(99)
	o := shake(t, side(1, 2), a, Raft, nil, forger{incarnation(2).Fingerprint()}.forge(incarnation(99)))
	if o.dialer == nil || shows(o.dialed, 1) {
		t.Errorf("a forged answer: dialer %v, number shown %v", o.dialer, shows(o.dialed, 1))
	}
	var r *RefusedError
	if errors.As(o.dialer, &r) && r.Proven {
		t.Error("a forger's refusal passes for a proven one")
	}
}

// TestUnprovenRefusalDoesNotCount: someone at a member's address refuses in the member's name.
func TestUnprovenRefusalDoesNotCount(t *testing.T) {
	a := side(2, 1)
	a.Self.Incarnation = incarnation(99)
	a.PeerRecords.(*Memory).Refuse = func(h Hello) error { return RefuseRemoved(h.Member) }
	o := shake(t, side(1, 2), a, Raft, nil, forger{incarnation(2).Fingerprint()}.forge(incarnation(99)))
	var r *RefusedError
	if !errors.As(o.dialer, &r) || r.Proven {
		t.Errorf("dialer: %#v", o.dialer)
	}
	// A verdict that was changed on the way is not the peer's any more.
	a = side(2, 1)
	a.PeerRecords.(*Memory).Refuse = func(h Hello) error { return Refuse(Later, "wait") }
	o = shake(t, side(1, 2), a, Raft, nil, func(b []byte) []byte {
		if kind(b[0]) == kindVerdict {
			b = bytes.Replace(b, []byte{tagKind, 1, 0, byte(Later)}, []byte{tagKind, 1, 0, byte(Removed)}, 1)
		}
		return b
	})
	if !errors.As(o.dialer, &r) || r.Proven || r.Kind != Removed {
		t.Errorf("dialer: %#v", o.dialer)
	}
}

// TestReplayIsRefused sends what a member sent once, word for word.
func TestReplayIsRefused(t *testing.T) {
	for _, dKnows := range [][]uint64{nil, {2}} {
		for _, aKnows := range [][]uint64{nil, {1}} {
			recorded := shake(t, side(1, dKnows...), side(2, aKnows...), Raft)
			recorded.mustPass(t)
			for _, a := range []Party{side(2), side(2, 1)} {
				c1, c2 := net.Pipe()
				done := make(chan error, 1)
				go func() {
					_, err := Accept(c2, a, Raft)
					c2.Close()
					done <- err
				}()
				go io.Copy(io.Discard, c1)
				c1.Write(recorded.dialed)
				if err := <-done; err == nil {
					t.Errorf("a replay passed; the dialer knew %v, the acceptor %v", dKnows, aKnows)
				}
				c1.Close()
				if _, met := a.PeerRecords.Known(1); met != (a.PeerRecords.Heard()[1] != Fingerprint{}) ||
					met && len(a.PeerRecords.Heard()) > 1 {
					t.Error("a replay left a trace")
				}
			}
		}
	}
}

// TestEveryBitCounts changes each byte that either side sends, one at a time: nothing passes.
func TestEveryBitCounts(t *testing.T) {
	size := func(o outcome, of int) int { return len([][]byte{o.dialed, o.accepted}[of]) }
	whole := shake(t, side(1, 2), side(2, 1), Raft)
	for of := range 2 {
		for at := range size(whole, of) {
			seen := 0
			flip := func(b []byte) []byte {
				if at >= seen && at < seen+len(b) {
					b[at-seen] ^= 0x40
				}
				seen += len(b)
				return b
			}
			edits := []func([]byte) []byte{nil, nil}
			edits[of] = flip
			d, a := side(1, 2), side(2, 1)
			o := shakeSoon(t, d, a, edits...)
			if o.dialer == nil && o.acceptor == nil {
				t.Errorf("byte %d of what side %d sent does not count", at, of)
			}
		}
	}
}

// shakeSoon is shake for messages that may be cut short, where a side would wait for the rest.
func shakeSoon(t *testing.T, d, a Party, edits ...func([]byte) []byte) outcome {
	c1, c2 := net.Pipe()
	w1, w2 := &wire{Conn: c1, edit: edits[0]}, &wire{Conn: c2, edit: edits[1]}
	var o outcome
	var both sync.WaitGroup
	deadline := time.Now().Add(20 * time.Millisecond)
	c1.SetDeadline(deadline)
	c2.SetDeadline(deadline)
	both.Go(func() { _, o.acceptor = Accept(w2, a, Raft); c2.Close() })
	both.Go(func() { _, o.dialer = Dial(w1, d, Raft, a.Self.Member); c1.Close() })
	both.Wait()
	return o
}

// TestLaterFields: a version that says more is understood, and what it says is proven.
func TestLaterFields(t *testing.T) {
	extend := func(b []byte) []byte {
		if kind(b[0]) != kindHello {
			return b
		}
		b = append(b, 200, 3, 0, 'n', 'e', 'w')
		b[1], b[2] = byte(len(b)-3), byte((len(b)-3)>>8)
		return b
	}
	// Added on the way, it is not what the sender proves; the acceptor sees another hello than was sent.
	o := shake(t, side(1, 2), side(2, 1), Raft, extend)
	if o.acceptor == nil {
		t.Error("a field that was added on the way passed")
	}
	h := Hello{Purpose: Raft, Cluster: 7, Member: 1, Knows: true}
	got, err := decodeHello(extend(append([]byte{byte(kindHello), 0, 0}, h.encode()...))[3:])
	if err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNothingPrintsTheNumber tries the ways in which values reach logs, errors and answers.
func TestNothingPrintsTheNumber(t *testing.T) {
	i, err := NewIncarnation()
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Incarnation: i}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb+verb, i, &i, id)
	}
	encoded, err := json.Marshal(map[string]any{"i": i, "id": id})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, raw := range []string{i.Reveal(), strings.ToUpper(i.Reveal()), hex.EncodeToString(i.n[:8]),
		fmt.Sprint(i.n[:]), string(i.n[:])} {
		if strings.Contains(out.String(), raw) {
			t.Errorf("%q shows in %q", raw, out.String())
		}
	}
	if again, err := ParseIncarnation(i.Reveal()); err != nil || !again.Equal(i) {
		t.Errorf("revealed and read back: %v", err)
	}
	if _, err := ParseIncarnation(i.Reveal()[1:]); err == nil || strings.Contains(err.Error(), i.Reveal()[1:20]) {
		t.Errorf("the error of half a number is %v", err)
	}
}

// FuzzAccept: no bytes make a side panic, or pass without the number.
func FuzzAccept(f *testing.F) {
	o := shake(f, side(1, 2), side(2, 1), Raft)
	f.Add(o.dialed)
	f.Add(o.dialed[:40])
	f.Add(shake(f, side(1), side(2), Introduce).dialed)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, known := range [][]uint64{nil, {1}} {
			a := side(2, known...)
			rw := struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(b), io.Discard}
			if _, err := Accept(rw, a, Raft, Snapshot, Ask, Introduce); err == nil && known != nil {
				t.Errorf("%x passes", b)
			}
		}
	})
}

// FuzzHello: what is read is what was written.
func FuzzHello(f *testing.F) {
	h := Hello{Purpose: Raft, Cluster: 7, Member: 1, Wanted: 2, Boot: 3, Start: 4, Fresh: true, Knows: true}
	f.Add(h.encode())
	v := verdict{reason: Reason{Kind: Copy, Text: "no"}, heard: map[uint64]Fingerprint{3: incarnation(3).Fingerprint()}}
	f.Add(append(v.body(), make([]byte, tagSize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHello(b); err == nil {
			if again, err := decodeHello(h.encode()); err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if v, _, err := decodeVerdict(b); err == nil {
			if again, _, err := decodeVerdict(append(v.body(), v.tag...)); err != nil ||
				len(again.heard) != len(v.heard) {
				t.Errorf("%+v became %+v, %v", v, again, err)
			}
		}
	})
}
