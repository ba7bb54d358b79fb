package machine_test

import (
	"bytes"
	"errors"
	"testing"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func beginHistory(id uint64) raftv1.Command {
	return command(raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: id})
}

// TestHistoryBegins: a history begins once, with an id that is not 0, before anything else may be proposed; a restart
// and a snapshot keep it, and a refused step leaves none.
func TestHistoryBegins(t *testing.T) {
	d := newDriver(t)
	if _, err := d.m.CheckProposal(put("a", "1")); !errors.Is(err, statemachine.ErrNoHistory) {
		t.Errorf("a put before it has begun: %v", err)
	}
	if _, err := d.m.CheckProposal(beginHistory(7)); err != nil {
		t.Error(err)
	}
	for _, step := range []struct {
		id    uint64
		taken bool
		after uint64
	}{{0, false, 0}, {7, true, 7}, {7, false, 7}, {8, false, 7}} {
		select {
		case <-d.m.History().Begun():
			if d.m.History().ID() == 0 {
				t.Error("begun without an id")
			}
		default:
			if d.m.History().ID() != 0 {
				t.Error("not told that it has begun")
			}
		}
		r := d.do(beginHistory(step.id))[0]
		if (r.Err == nil) != step.taken || d.m.History().ID() != step.after {
			t.Errorf("%d: %v, and then it is %d, not %d", step.id, r.Err, d.m.History().ID(), step.after)
		}
	}
	if _, err := d.m.CheckProposal(put("a", "1")); err != nil {
		t.Error(err)
	}
	if err := d.m.Sync(); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	if d.m.History().ID() != 7 {
		t.Errorf("after a restart it is %d", d.m.History().ID())
	}
	other := newDriver(t)
	prepared, err := d.m.PrepareSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := errors.Join(d.m.SaveSnapshot(prepared, &stream, nil), other.m.RecoverFromSnapshot(&stream,
		nil)); err != nil {
		t.Fatal(err)
	}
	if other.m.History().ID() != 7 {
		t.Errorf("after a snapshot it is %d", other.m.History().ID())
	}
}
