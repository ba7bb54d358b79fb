package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// MaxCompletions is how many choices a shell is offered at most.
const MaxCompletions = 200

// Offered are the completions that begin with what was typed; names that a terminal would not show as they are, are
// left out.
func Offered(found []cobra.Completion, typed string) []cobra.Completion {
	found = slices.DeleteFunc(found, func(c cobra.Completion) bool {
		name, _, _ := strings.Cut(c, "\t")
		return !strings.HasPrefix(name, typed) || Plain(name) != name
	})
	return found[:min(len(found), MaxCompletions)]
}

// Described is a completion with what a shell shows beside it.
func Described(choice, description string) cobra.Completion {
	return cobra.CompletionWithDesc(choice, Plain(description))
}
