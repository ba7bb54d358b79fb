package machine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

func compareRefused(a, b statemachine.Refused) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Command, b.Command), cmp.Compare(a.Request, b.Request))
}

// refusedKey is the key of the row of a refusal.
func refusedKey(r statemachine.Refused) []byte {
	k := binary.BigEndian.AppendUint64([]byte{mvcc.SpaceRefused}, r.Index)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(k, r.Command), r.Request)
}

// refusedList are the refused commands, in order.
type refusedList []statemachine.Refused

// load adds a row. Rows come in order.
func (l *refusedList) load(key []byte) error {
	*l = append(*l, statemachine.Refused{
		Index: binary.BigEndian.Uint64(key[1:]), Command: binary.BigEndian.Uint32(key[9:]),
		Request: binary.BigEndian.Uint32(key[13:]),
	})
	return nil
}

func (l refusedList) has(r statemachine.Refused) bool {
	_, found := slices.BinarySearchFunc(l, r, compareRefused)
	return found
}

// refuses reports whether what is being applied, a command or a request of one, is refused.
func (b *batch) refuses() bool {
	l := b.m.denied
	if len(l) == 0 {
		return false
	}
	whole := statemachine.Refused{Index: b.at.index, Command: uint32(b.at.command)}
	return l.has(whole) || b.at.request > 0 && l.has(b.at.refused())
}

// refusesLease reports whether the end of the lease that is due is refused.
func (b *batch) refusesLease() bool {
	return b.m.denied.has(b.at.refused())
}

// Refusals are the commands that the operator has refused, in order.
func (v *View) Refusals() []statemachine.Refused { return v.refused }

// takeOver writes refusals that are not there yet, durably. Open does before anything is applied.
func (m *Machine) takeOver(list []statemachine.Refused) error {
	for _, r := range list {
		if m.denied.has(r) {
			continue
		}
		if r.Index <= m.index {
			return &RefusalTooLateError{Refused: r, Applied: m.index}
		}
		if err := m.store.refuse(r); err != nil {
			return err
		}
		m.denied = append(m.denied, r)
		slices.SortFunc(m.denied, compareRefused)
	}
	return nil
}

// refuse writes a refusal durably.
func (s *store) refuse(r statemachine.Refused) error {
	b := s.current.NewBatch()
	if err := b.Set(refusedKey(r), nil, pebble.NoSync); err != nil {
		return err
	}
	if err := s.commitBatch(b); err != nil {
		return err
	}
	return s.flush()
}

// RefusalTooLateError: the entry of a command that is to be refused was applied already.
type RefusalTooLateError struct {
	Refused statemachine.Refused
	Applied uint64 // log index that the state has reached
}

func (e *RefusalTooLateError) Error() string {
	return fmt.Sprintf("command %v is not refused: this member has applied the log up to %d, the command with it",
		e.Refused, e.Applied)
}

// ErrRefusedBefore: the command is in the list already.
var ErrRefusedBefore = errors.New("the command was refused before")

// Bounds of the list: of those commands whose entries were not applied yet, and of all. A list of so many fits into
// what a new member is told when it is introduced.
const (
	MaxRefusedOpen = 64
	MaxRefused     = 160
)

// ErrTooManyRefused: the list is full.
var ErrTooManyRefused = errors.New("too many commands are refused")

// room says whether one more command may be refused: nil, or an error that wraps ErrTooManyRefused.
func (l refusedList) room(applied uint64) error {
	open := 0
	for _, r := range l {
		if r.Index > applied {
			open++
		}
	}
	switch {
	case open >= MaxRefusedOpen:
		return fmt.Errorf("%w: %d that were not applied yet, the last one %v; at most %d may be", ErrTooManyRefused,
			open, l[len(l)-1], MaxRefusedOpen)
	case len(l) >= MaxRefused:
		return fmt.Errorf("%w: %d since the cluster was founded, which is the bound: move it by a snapshot into a "+
			"new one", ErrTooManyRefused, len(l))
	}
	return nil
}

// CheckRefused says why what an entry of the log carries does not hold what r names, nil if it does.
func CheckRefused(r statemachine.Refused, data []byte) error {
	entry, err := raftv1.DecodeEntry(data)
	if err != nil {
		return fmt.Errorf("entry %d holds no commands: %w", r.Index, err)
	}
	if n := len(entry.Commands); int64(r.Command) > int64(n) {
		return fmt.Errorf("entry %d holds %d commands", r.Index, n)
	}
	parts, what := 0, ""
	switch c := entry.Commands[r.Command-1]; c.Kind {
	case raftv1.KindRequests:
		q, _ := raftv1.ParseRequests(c.Body)
		parts, what = len(q.Requests), fmt.Sprintf("%d requests", len(q.Requests))
	case raftv1.KindTick:
		parts, what = maxExpiredLeases, fmt.Sprintf("at most %d leases", maxExpiredLeases)
	default:
		what = fmt.Sprintf("one %v, and no requests", c.Kind)
	}
	if int64(r.Request) > int64(parts) {
		return fmt.Errorf("command %d.%d is of %s", r.Index, r.Command, what)
	}
	return nil
}

// RefuseCommand adds a command to the list in the store of a machine that does not run, durably. check, which may be
// nil, is told up to where the log was applied, and may decline. ErrRefusedBefore, ErrTooManyRefused,
// RefusalTooLateError, and what check returns.
func RefuseCommand(
	fs vfs.FS, dir string, r statemachine.Refused, check func(applied uint64) error, log *zap.Logger,
) (err error) {
	m := New(Options{Dir: dir, FS: fs, Logger: log})
	if m.store, err = openStore(m.opts.store(m.log)); err != nil {
		return fmt.Errorf("open the store in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, m.store.close()) }()
	if err := m.load(); err != nil {
		return fmt.Errorf("read the store in %s: %w", dir, err)
	}
	if m.denied.has(r) {
		return ErrRefusedBefore
	}
	if r.Index > m.index && check != nil {
		if err := check(m.index); err != nil {
			return err
		}
	}
	if err := m.denied.room(m.index); err != nil && r.Index > m.index {
		return err
	}
	return m.takeOver([]statemachine.Refused{r})
}
