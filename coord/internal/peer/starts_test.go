package peer

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// startOf is a start of member 2's directory, or of a copy of it.
func startOf(boot, number uint64) func(*Options) {
	return func(o *Options) { o.Self.Boot, o.Self.Start = boot, number }
}

// TestCopyBesideItsOriginal: a copy of a directory that runs beside the original is refused by name, with whatever
// boot, and the original stays connected both ways.
func TestCopyBesideItsOriginal(t *testing.T) {
	for _, tc := range []struct {
		what   string
		boot   uint64
		reason string
	}{
		{"of the same boot", 5, "another process runs from a copy of the data directory of member 2 and answers"},
		{"of a higher boot", 9, "another process runs from a copy of the data directory of member 2 and answers"},
		{"of a lower boot", 4, "its data directory is an older copy"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
			original := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(5, 50))
			a.knows(original)
			original.knows(a)
			eventually(t, "connections", func() bool { return a.Stats()[0].Connected && original.Stats()[0].Connected })

			copied := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(tc.boot, 51))
			copied.knows(a)
			r := receive(t, copied.refused, "refusal")
			if r.Local || r.Kind != handshake.Copy || !strings.Contains(r.Reason, tc.reason) {
				t.Errorf("refused with %v", r)
			}
			// The first refusal is of a stranger; from the next one on the copy would know who refuses it, had it a
			// record.
			if s := original.Stats()[0]; !s.Connected || s.Connects != 1 {
				t.Errorf("the original's link: %+v", s)
			}
			if s := a.Stats()[0]; !s.Connected || s.Connects != 1 {
				t.Errorf("the link to the original: %+v", s)
			}
			if copied.Stats()[0].Connected {
				t.Error("the copy is connected")
			}
			c := original.conn(t, 1)
			defer c.Close()
			_ = c.SendMessageBatch(batchFrom(2, 1, 1, 10))
			receive(t, a.batches, "batch of the original")
			if _, err := copied.GetSnapshotConnection(t.Context(), Target(1)); err == nil ||
				!strings.Contains(err.Error(), tc.reason) {
				t.Errorf("a copy's snapshot: %v", err)
			}
		})
	}
}

// TestDialledCopyIsRefused: the address of a member leads to a copy of its directory, while the original is connected.
func TestDialledCopyIsRefused(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	original := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(5, 50))
	original.knows(a)
	eventually(t, "connection", func() bool { return original.Stats()[0].Connected })
	copied := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(6, 60))
	a.knows(copied)
	if r := receive(t, a.refused, "refusal"); !r.Local || r.Kind != handshake.Copy {
		t.Errorf("refused with %v", r)
	}
	if a.Stats()[0].Connected || !original.Stats()[0].Connected {
		t.Error("the copy took the original's place")
	}
}

// TestRestartPassesHalfOpenConnections: the machine of a member was lost without a word, and the member is back. Its
// old connections do not answer, and delay it by the time of the probe at most.
func TestRestartPassesHalfOpenConnections(t *testing.T) {
	const election = 600 * time.Millisecond
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) {
		o.ProbeTimeout, o.IdleTimeout = election*3/2, time.Hour
	})
	lost, err := net.Dial("tcp", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	self := identity(2)
	self.Boot, self.Start = 5, 50
	shake(t, lost, self, 1)
	eventually(t, "connection", func() bool { return a.Hears(2) })

	begin := time.Now()
	back := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(6, 60))
	back.knows(a)
	eventually(t, "connection", func() bool { return back.Stats()[0].Connected })
	if took := time.Since(begin); took < election || took > 2*election {
		t.Errorf("back after %v, want at most two election timeouts of %v and not without a probe", took, election)
	}
	if len(back.refused) > 0 {
		t.Errorf("refused: %v", <-back.refused)
	}
	c := back.conn(t, 1)
	defer c.Close()
	_ = c.SendMessageBatch(batchFrom(2, 1, 1, 10))
	receive(t, a.batches, "batch")
	// The lost start is refused when it turns up again, and with a lower boot for good.
	late, err := net.Dial("tcp", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	_, _ = late.Write(magic[:])
	peerRecords := known(1, 1)
	_, err = handshake.Dial(late, handshake.Party{Self: self, PeerRecords: peerRecords}, handshake.Raft, 1)
	if r, ok := err.(*handshake.RefusedError); !ok || !r.Proven || r.Kind != handshake.Copy {
		t.Errorf("the lost start came back: %v", err)
	}
}

// TestRestartIsNotProbed: a process that ended took its connections with it.
func TestRestartIsNotProbed(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.ProbeTimeout = time.Hour })
	for boot := range uint64(4) {
		b := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(boot, 100+boot))
		b.knows(a)
		eventually(t, "connection", func() bool { return b.Stats()[0].Connected })
		b.Close()
		eventually(t, "end of the connection", func() bool { return !a.Hears(2) })
	}
}

// TestProbeEndsWithTheConnections: a process ends while its successor is made to wait for its answer.
func TestProbeEndsWithTheConnections(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) {
		o.ProbeTimeout, o.IdleTimeout = time.Minute, time.Hour
	})
	ended, err := net.Dial("tcp", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close()
	shake(t, ended, identity(2), 1)
	eventually(t, "connection", func() bool { return a.Hears(2) })
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), startOf(6, 60))
	b.knows(a)
	eventually(t, "probe", func() bool {
		a.starts.mu.Lock()
		defer a.starts.mu.Unlock()
		return len(a.starts.probes) > 0
	})
	ended.Close()
	eventually(t, "connection", func() bool { return b.Stats()[0].Connected })
}

// TestRemovedMemberIsCutOff: its connections end, and it hears why.
func TestRemovedMemberIsCutOff(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	b.knows(a)
	eventually(t, "connections", func() bool { return a.Stats()[0].Connected && b.Stats()[0].Connected })
	a.opt.Book.Remove(2)
	r := receive(t, b.refused, "refusal")
	if !r.Proven || r.Kind != handshake.Removed {
		t.Errorf("refused with %v", r)
	}
	eventually(t, "end of the connections", func() bool { return !a.Hears(2) && !a.Stats()[0].Connected })
}
