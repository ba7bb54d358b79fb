package machine

import (
	"errors"
	"fmt"
	"runtime/debug"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// place is what is being applied, for who has to know why a replica cannot go on.
type place struct {
	index    uint64
	entry    *raftv1.Entry        // nil: it does not parse, or not yet
	command  int                  // from 1; 0: none of them
	request  int                  // of a command with requests, or a tick's lease, from 1; 0: none of them
	kind     coordv1.Kind         // of the request
	sequence uint64               // likewise
	session  statemachine.LeaseID // whose requests they are, 0: none
	lease    statemachine.LeaseID // that expires, 0: none
	reaction string               // the queue that is told of what the tick deleted, "": none
}

// String is INDEX, INDEX.COMMAND or INDEX.COMMAND.REQUEST, as coordd refuse-command takes it. A reaction in a tick is
// refused with the tick, and not with the lease: that can go.
func (p place) String() string {
	switch {
	case p.command == 0:
		return fmt.Sprint(p.index)
	case p.request == 0, p.reaction != "":
		return fmt.Sprintf("%d.%d", p.index, p.command)
	}
	return fmt.Sprintf("%d.%d.%d", p.index, p.command, p.request)
}

// refused is the name of the command, and of the request or lease in it, in a list of refused ones.
func (p place) refused() statemachine.Refused {
	return statemachine.Refused{Index: p.index, Command: uint32(p.command), Request: uint32(p.request)}
}

// describe says what it is and who wanted it.
func (p place) describe() string {
	if p.entry == nil {
		return "an entry that does not parse"
	}
	who := fmt.Sprintf("member %x (start %d, entry %d)", p.entry.Member, p.entry.Boot, p.entry.Number)
	if p.command == 0 {
		return "an entry of " + who
	}
	what := fmt.Sprintf("command %d of %d, %v, of %s", p.command, len(p.entry.Commands),
		p.entry.Commands[p.command-1].Kind, who)
	if by := p.entry.Commands[p.command-1].By; by.User != "" {
		what += fmt.Sprintf(", asked by user %q", by.User)
	}
	if p.session != 0 {
		what += fmt.Sprintf(", of session %x", p.session)
	}
	if p.kind != 0 {
		what += fmt.Sprintf(", its request %d: %v, sequence %d", p.request, p.kind, p.sequence)
	}
	if p.lease != 0 {
		what += fmt.Sprintf(", at the lease %x that expires", p.lease)
	}
	if p.reaction != "" {
		what += fmt.Sprintf(", in what follows for %q", p.reaction)
	}
	return what
}

// CheckCommand says whether this machine can apply a command: nil, or an error that wraps raftv1.ErrMalformed or
// raftv1.ErrUnknown. It may be called at any time: what a replica would end at must not get into the log.
func (m *Machine) CheckCommand(c raftv1.Command) error {
	if err := raftv1.CheckKind(c); err != nil {
		return err
	}
	switch c.Kind {
	case raftv1.KindVersionRaise:
		r := &raftv1.VersionRaise{}
		if proto.Unmarshal(c.Body, r) == nil { // else every member refuses it
			return checkRaise(raftv1.Version(r.Version))
		}
	case raftv1.KindCall:
		if name := raftv1.ProcedureOf(c); m.procedures[name] == nil {
			return fmt.Errorf("%w: a call of procedure %q", raftv1.ErrUnknown, name)
		}
	}
	return nil
}

// panicked is what was recovered from the apply.
type panicked struct {
	value any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// applyError says why a replica cannot go on. Nothing of the batch is published.
type applyError struct {
	at  place
	err error
}

func (e *applyError) Unwrap() error { return e.err }

// Error is one line: what happened, where, who wanted it, and what to do.
func (e *applyError) Error() string {
	text := fmt.Sprintf("log entry %v is not applied: %v (%s); ", e.at, e.err, e.at.describe())
	switch {
	case errors.As(e.err, new(panicked)) && e.at.command > 0:
		return text + fmt.Sprintf("where all members end here, stop them, let each refuse it by \"coordd "+
			"refuse-command --data-dir DIR --entry %v\", and start them again", e.at)
	case errors.As(e.err, new(panicked)):
		return text + "this is a fault of this release"
	case errors.Is(e.err, raftv1.ErrUnknown):
		return text + "start this member with the release that the others run"
	}
	return text + "nothing of it is lost on this member: mend its disk and start it again, or rebuild it from " +
		"the others"
}

// maxBatch is the size of the rows of a batch from which it takes no further entry, in bytes: Dragonboat hands over
// whatever is committed, and a batch holds its rows three times until it is in the store.
const maxBatch = 4 << 20

// entries applies entries to the batch, up to the next StateHash command or until it is full, and returns their number.
// A panic is an error: it is the last thing that this replica does, and nobody sees what it had done by then.
func (b *batch) entries(entries []sm.Entry) (n int, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &applyError{b.at, panicked{value, debug.Stack()}}
		}
	}()
	for n < len(entries) && !b.toHash && b.err == nil && b.kv.Rows().Bytes() < maxBatch {
		if e := entries[n]; e.Index > b.m.index { // Dragonboat promises so; a replay must never apply twice
			b.entry(e)
		}
		n++
	}
	if b.err != nil {
		return 0, &applyError{b.failed, b.err}
	}
	return n, nil
}

// end tells of an error that this replica cannot go on after, and ends the process where Options say how.
func (m *Machine) end(err error) {
	var p panicked
	if errors.As(err, &p) {
		m.log.Error("panic in the apply", zap.Any("value", p.value), zap.ByteString("stack", p.stack))
	}
	m.log.Error(err.Error())
	_ = m.log.Sync()
	if m.opts.End != nil {
		m.opts.End(err.Error())
	}
}
