package daemon

import (
	"fmt"
	"strings"
)

const usage = `Usage:

  coordd [flags]
    Start a member. Without flags it runs alone on 127.0.0.1:2379.

  coordd refuse-command --data-dir DIR [--wal-dir DIR] --entry ENTRY [--not-in-log-yet]
    With the member stopped: have it refuse a command of the log at which all members end, as their last lines name it. For each
    member, before any of them is started again. It cannot be taken back. The log of the member must hold the entry, unless it was behind
    and --not-in-log-yet is said. These flags are not read from the environment.

  coordd --version
    Show the version.

  coordd -h | --help
    Show this text.

Flags of a member are written -x or --x, with = or a space before the value; of a repeated one the last counts. Each can also be set
by the environment: --data-dir by COORD_DATA_DIR or ETCD_DATA_DIR. A flag goes before COORD_, and that before ETCD_.
`

// Help is the text of --help.
func Help() string {
	var b strings.Builder
	b.WriteString(usage)
	for _, section := range sections {
		fmt.Fprintf(&b, "\n%s:\n", section.title)
		for _, s := range section.settings {
			fmt.Fprintf(&b, "  --%s '%s'\n    %s\n", s.name, s.shown, s.help)
		}
	}
	return b.String()
}
