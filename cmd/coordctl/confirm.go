package main

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

// A verb that takes something away asks first; --yes says that it was meant. Where there is no terminal to ask on, what can
// be undone goes on (confirm), as do etcdctl's verbs, which scripts use; what cannot be undone wants --yes (mustConfirm).

// errNotConfirmed is a no.
var errNotConfirmed = errors.New("nothing was changed")

func addYesFlag(cmd *cobra.Command) { cmd.Flags().Bool("yes", false, "do not ask") }

// saidYes tells whether --yes was given.
func saidYes(cmd *cobra.Command) bool {
	yes, err := cmd.Flags().GetBool("yes")
	return err == nil && yes
}

// canAsk tells whether somebody sits at a terminal.
func canAsk() bool { return isatty.IsTerminal(os.Stdin.Fd()) }

// confirm asks on the terminal, where there is one, whether what would happen is meant; it is a clause: "this drains all".
func confirm(cmd *cobra.Command, what string) error {
	if saidYes(cmd) || !canAsk() {
		return nil
	}
	return ask(what)
}

// mustConfirm is confirm for what cannot be undone: without a terminal it is refused.
func mustConfirm(cmd *cobra.Command, what string) error {
	switch {
	case saidYes(cmd):
		return nil
	case !canAsk():
		return badArgs("there is no terminal to ask on: %s; say --yes if this is meant", what)
	}
	return ask(what)
}

func ask(what string) error {
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
