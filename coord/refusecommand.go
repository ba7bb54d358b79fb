package coord

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/datadir"
	"github.com/coord-dev/coord/statemachine"
)

// RefuseCommand has the member with this data directory, which does not run, refuse a command of the log at which it and the others
// ended, and returns what comes next, in words. entry is what the last line of the members calls the command.
func RefuseCommand(dataDir, entry string, log *zap.Logger) (next string, err error) {
	r, err := statemachine.ParseRefused(entry)
	if err != nil {
		return "", err
	}
	before := false
	err = datadir.RefuseCommand(dataDir, r.String(), log, func(store string) error {
		err := statemachine.RefuseCommand(nil, store, r, log)
		before = errors.Is(err, statemachine.ErrRefusedBefore)
		if before {
			return nil
		}
		return err
	})
	var late *statemachine.RefusalTooLateError
	switch {
	case errors.As(err, &late):
		return "", fmt.Errorf("%w. Nothing was changed. If it is the command at which others ended, the members differ now: those that have applied it and those that ended at it. "+
			"Either the others have it refused and this member is rebuilt from them, or they are rebuilt from this one: remove the member that is to be "+
			"rebuilt from the cluster, add it again as a learner with an empty data directory, then promote it", err)
	case err != nil:
		return "", err
	}
	what := fmt.Sprintf("This member refuses command %v of the log.", r)
	if before {
		what = fmt.Sprintf("This member has refused command %v of the log before.", r)
	}
	return what + " When its entry is applied, it will not be executed: who asked for it is told so.\n" +
		"Next: run this on every other member while it is stopped, learners too, then start all of them. Members that refuse different commands do not\n" +
		"connect; one that was not told says so in its log. New members are told when they are introduced.\n", nil
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

// keepRefusals has the directory know what the store refuses: a state that was brought in from elsewhere may have a list of its own.
func (s *Server) keepRefusals() error {
	view, err := s.replica.Machine.View()
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
