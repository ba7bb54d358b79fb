package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// A verb that takes something away asks first; --yes says that it was meant. Where there is no terminal to ask on it
// goes on, for scripts.

// errNotConfirmed is a no.
var errNotConfirmed = errors.New("nothing was changed")

// AddYesFlag defines --yes, for verbs that Confirm.
func AddYesFlag(cmd *cobra.Command) { cmd.Flags().Bool("yes", false, "do not ask") }

// Asks tells whether confirm would ask: somebody sits at a terminal, and did not say --yes.
func Asks(cmd *cobra.Command) bool {
	yes, err := cmd.Flags().GetBool("yes")
	return err == nil && !yes && isatty.IsTerminal(os.Stdin.Fd())
}

// Confirm asks on the terminal, where there is one, whether what would happen is meant; it is a clause: "this drains
// all".
func Confirm(cmd *cobra.Command, what string) error {
	if !Asks(cmd) {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%s. Go on? [y/N] ", what)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
