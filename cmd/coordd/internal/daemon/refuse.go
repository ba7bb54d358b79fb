package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord"
)

const refuseCommand = "refuse-command"

// refuse has a stopped member refuse a command of the log.
func (p Process) refuse(args []string) int {
	flags := flag.NewFlagSet(refuseCommand, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var r coord.Refusal
	flags.StringVar(&r.DataDir, "data-dir", "", "")
	flags.StringVar(&r.WALDir, "wal-dir", "", "")
	flags.StringVar(&r.Entry, "entry", "", "")
	flags.BoolVar(&r.NotInLogYet, "not-in-log-yet", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return p.print(usage)
	case err == nil && (flags.NArg() > 0 || r.DataDir == "" || r.Entry == ""):
		err = errors.New("it takes --data-dir DIR and --entry ENTRY, --wal-dir DIR if the member runs with it, and " +
			"--not-in-log-yet")
	}
	if err != nil {
		return p.fail(exitUsage, fmt.Errorf("%s: %w", refuseCommand, err))
	}
	next, err := coord.RefuseCommand(r, zap.NewNop())
	if err != nil {
		return p.fail(exitFailed, fmt.Errorf("%s: %w", refuseCommand, err))
	}
	return p.print(next)
}
