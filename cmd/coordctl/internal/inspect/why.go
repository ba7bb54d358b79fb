package inspect

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// ExplainedKinds are the kinds that why tells of.
var ExplainedKinds = []coordv1.QueueKind{
	coordv1.QueueKind_QUEUE_LOCK, coordv1.QueueKind_QUEUE_ELECTION, coordv1.QueueKind_QUEUE_RWLOCK,
	coordv1.QueueKind_QUEUE_SEMAPHORE, coordv1.QueueKind_QUEUE_BARRIER,
}

// explained lists what why tells of, each with something behind it: "lock/NAME, election/NAME or barrier/NAME".
func explained(suffix string) string {
	var words []string
	for _, kind := range ExplainedKinds {
		words = append(words, KindName(kind)+suffix)
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func whyUsage() string { return "why takes " + explained("/NAME") }

// objectName names a queue as why takes it.
func objectName(kind coordv1.QueueKind, name string) string {
	switch {
	case IsElection(kind):
		kind = coordv1.QueueKind_QUEUE_ELECTION
	case kind == coordv1.QueueKind_QUEUE_ETCD:
		kind = coordv1.QueueKind_QUEUE_LOCK
	}
	return cli.Plain(KindName(kind) + "/" + name)
}

// parseObject takes apart what objectName made.
func parseObject(text string) (kind coordv1.QueueKind, name string, ok bool) {
	word, name, found := strings.Cut(text, "/")
	for _, kind := range ExplainedKinds {
		if found && KindName(kind) == word {
			return kind, name, true
		}
	}
	return 0, "", false
}

// NewWhy makes "coordctl why".
func NewWhy() *cobra.Command {
	return &cobra.Command{
		Use: "why KIND/NAME", Short: "Says who holds, since when, who waits and what would free it",
		Long: "Says in one sentence who holds, since when, who waits and what would free it. KIND is " +
			explained("") + ".",
		Example: "  coordctl why lock/jobs/nightly",
		RunE:    inspect(1, whyUsage(), why),
	}
}

func why(i *inspection, args []string) error {
	kind, name, ok := parseObject(args[0])
	if !ok {
		return cli.BadArgs("%s", whyUsage())
	}
	resp, err := Explain(i.ctx, i, kind, name)
	if err != nil {
		return err
	}
	if kind == coordv1.QueueKind_QUEUE_BARRIER {
		if err := i.addGate(resp, name); err != nil {
			return err
		}
	}
	return i.show(resp, func(w io.Writer) { cli.Row(w, resp.Sentence) })
}

// addGate says, too, that a barrier of the name is closed: it is another one, with the same word for it.
func (i *inspection) addGate(resp *coordv1.ExplainResponse, name string) error {
	found, err := i.kv.Get(i.ctx, layout.Gate.Key(name))
	if err != nil || len(found.Kvs) == 0 {
		return err
	}
	gate, err := objects.Gate(found.Kvs[0])
	if err != nil {
		return err
	}
	resp.Sentence += fmt.Sprintf("; besides, it holds up who calls \"barrier wait\", because it was closed at "+
		"revision %d",
		gate.Since)
	if gate.Reason != "" {
		resp.Sentence += fmt.Sprintf(" (%q)", gate.Reason)
	}
	if gate.Session != 0 {
		resp.Sentence += fmt.Sprintf(" until session %x ends", gate.Session)
	}
	return nil
}

// NewDeadlocks makes "coordctl deadlocks".
func NewDeadlocks() *cobra.Command {
	return &cobra.Command{
		Use: "deadlocks", Short: "Shows which session waits for which, and where they wait for each other in a circle",
		Long: `Shows the wait-for graph. Its ends are sessions: one that several goroutines of a process share may be in a circle and still
go on, if the goroutine that holds is not the one that waits.`,
		RunE: inspect(0, "deadlocks takes no arguments", deadlocks),
	}
}

func deadlocks(i *inspection, _ []string) error {
	resp, err := i.WaitGraph(i.ctx, &coordv1.WaitGraphRequest{})
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		cli.Row(w, "SESSION", "WAITS FOR", "BECAUSE OF")
		for _, e := range resp.Edges {
			cli.Row(w, cli.HexID(e.Waiter), cli.HexID(e.Holder), cli.Plain(e.Name))
		}
		for _, cycle := range resp.Deadlocks {
			cli.Row(w, "deadlock: "+circle(cycle.Edges))
		}
		if len(resp.Deadlocks) == 0 {
			cli.Row(w, "no deadlock")
		}
	})
}

func circle(edges []*coordv1.WaitGraphResponse_Edge) string {
	var b strings.Builder
	for _, e := range edges {
		fmt.Fprintf(&b, "%s waits for %q of ", cli.HexID(e.Waiter), e.Name)
	}
	return b.String() + cli.HexID(edges[0].Waiter)
}
