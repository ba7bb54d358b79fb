package coord

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/datadir"
	"github.com/coord-dev/coord/coord/internal/logstore"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// Refusal says what a member is to refuse.
type Refusal struct {
	// DataDir and WALDir are what the member runs with.
	DataDir, WALDir string
	// Entry is what the last line of the members calls the command.
	Entry string
	// NotInLogYet lets a member that is behind refuse a command that its log does not hold: nobody sees then whether
	// there will be one.
	NotInLogYet bool
}

// RefuseCommand has the member with this data directory, which does not run, refuse a command of the log at which it
// and the others ended, and returns what comes next, in words.
func RefuseCommand(o Refusal, log *zap.Logger) (next string, err error) {
	r, err := statemachine.ParseRefused(o.Entry)
	if err != nil {
		return "", err
	}
	before := false
	err = datadir.RefuseCommand(o.DataDir, o.WALDir, r.String(), log, func(d *datadir.Dir) error {
		check := func(applied uint64) error { return o.check(d, r, applied) }
		err := machine.RefuseCommand(nil, d.StorePath(SystemShard), r, check, log)
		before = errors.Is(err, machine.ErrRefusedBefore)
		if before {
			return nil
		}
		return err
	})
	var late *machine.RefusalTooLateError
	switch {
	case errors.As(err, &late):
		return "", fmt.Errorf("%w. Nothing was changed. If it is the command at which others ended, the members "+
			"differ now: those that have applied it and those that ended at it. Either the "+
			"others have it refused and this member is rebuilt from them, or they are rebuilt from this one: remove "+
			"the member that is to be rebuilt from the cluster, add it again as a learner with an empty data "+
			"directory, then promote it", err)
	case err != nil:
		return "", err
	}
	what := fmt.Sprintf("This member refuses command %v of the log.", r)
	if before {
		what = fmt.Sprintf("This member has refused command %v of the log before.", r)
	}
	return what + " When its entry is applied, it will not be executed: who asked for it is told so.\n" +
		"Next: run this on every other member while it is stopped, learners too, then start all of them. Members " +
		"that refuse different commands do not\n" +
		"connect; one that was not told says so in its log. New members are told when they are introduced.\n", nil
}

// check declines a command that the log of a member, which was applied up to an index, does not hold.
func (o Refusal) check(d *datadir.Dir, r statemachine.Refused, applied uint64) error {
	last, entry, err := logstore.ReadStopped(vfs.Default, d.WALPath(), SystemShard, d.Identity().MemberID, r.Index)
	switch {
	case errors.Is(err, logstore.ErrNoLog):
		return fmt.Errorf("%w; if the member runs with --wal-dir, say it here too", err)
	case err != nil:
		return err
	case r.Index > last && o.NotInLogYet:
		return nil
	case r.Index > last:
		return fmt.Errorf("command %v is not refused: the log of this member ends at entry %d. It has applied it up "+
			"to %d, so it takes commands of the entries from %d to %d. "+
			"Compare what was typed with the last lines of the members that ended; if it is right, and this member "+
			"was behind, so that it must yet receive the entry, "+
			"say --not-in-log-yet", r, last, applied, applied+1, last)
	case entry == nil:
		return fmt.Errorf("command %v is not refused: entry %d of the log of this member holds no commands", r, r.Index)
	}
	if err := machine.CheckRefused(r, entry); err != nil {
		return fmt.Errorf("command %v is not refused: %w", r, err)
	}
	return nil
}

// refusals are the commands that the directory says are refused.
func (s *Server) refusals() (list []statemachine.Refused, err error) {
	for _, text := range s.dir.Refused() {
		r, err := statemachine.ParseRefused(text)
		if err != nil {
			return nil, fmt.Errorf("data directory %q: %w", s.cfg.DataDir, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// keepRefusals has the directory know what the store refuses: a state that was brought in from elsewhere may have a
// list of its own.
func (s *Server) keepRefusals() error {
	view, err := s.system.Read(s.ctx)
	if err != nil {
		return err
	}
	defer view.Close()
	known := map[string]bool{}
	for _, text := range s.dir.Refused() {
		known[text] = true
	}
	var fresh []string
	for _, r := range view.Refusals() {
		if !known[r.String()] {
			fresh = append(fresh, r.String())
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return s.dir.Refuse(fresh...)
}
