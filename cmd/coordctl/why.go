package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

const whyUsage = "why takes lock/NAME or election/NAME"

func newWhyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why lock/NAME | election/NAME", Short: "Says who holds, since when, who waits and what would free it",
		Example: "  coordctl why lock/jobs/nightly",
		GroupID: groupConcurrency,
		RunE:    inspect(1, whyUsage, why),
	}
}

func why(i *inspection, args []string) error {
	kind := coordv1.QueueKind_QUEUE_LOCK
	name, ok := strings.CutPrefix(args[0], lockPrefix)
	if !ok {
		kind = coordv1.QueueKind_QUEUE_ELECTION
		name, ok = strings.CutPrefix(args[0], electionPrefix)
	}
	if !ok {
		return badArgs(whyUsage)
	}
	resp, err := explainQueue(i.ctx, i, kind, name)
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) { row(w, resp.Sentence) })
}

func newDeadlocksCommand() *cobra.Command {
	return &cobra.Command{
		Use: "deadlocks", Short: "Shows which session waits for which, and where they wait for each other in a circle",
		Long: `Shows the wait-for graph. Its ends are sessions: one that several goroutines of a process share may be in a circle and still
go on, if the goroutine that holds is not the one that waits.`,
		GroupID: groupConcurrency,
		RunE:    inspect(0, "deadlocks takes no arguments", deadlocks),
	}
}

func deadlocks(i *inspection, _ []string) error {
	resp, err := i.WaitGraph(i.ctx, &coordv1.WaitGraphRequest{})
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		row(w, "SESSION", "WAITS FOR", "BECAUSE OF")
		for _, e := range resp.Edges {
			row(w, hexID(e.Waiter), hexID(e.Holder), plain(e.Name))
		}
		for _, cycle := range resp.Deadlocks {
			row(w, "deadlock: "+circle(cycle.Edges))
		}
		if len(resp.Deadlocks) == 0 {
			row(w, "no deadlock")
		}
	})
}

func circle(edges []*coordv1.WaitGraphResponse_Edge) string {
	var b strings.Builder
	for _, e := range edges {
		fmt.Fprintf(&b, "%s waits for %q of ", hexID(e.Waiter), e.Name)
	}
	return b.String() + hexID(edges[0].Waiter)
}
