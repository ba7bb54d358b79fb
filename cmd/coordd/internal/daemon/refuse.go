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
	dir := flags.String("data-dir", "", "")
	entry := flags.String("entry", "", "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return p.print(usage)
	case err == nil && (flags.NArg() > 0 || *dir == "" || *entry == ""):
		err = errors.New("it takes --data-dir DIR and --entry ENTRY, both once")
	}
	if err != nil {
		return p.fail(exitUsage, fmt.Errorf("%s: %w", refuseCommand, err))
	}
	next, err := coord.RefuseCommand(*dir, *entry, zap.NewNop())
	if err != nil {
		return p.fail(exitFailed, fmt.Errorf("%s: %w", refuseCommand, err))
	}
	return p.print(next)
}
