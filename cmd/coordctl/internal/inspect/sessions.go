package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// NewSessions makes "coordctl sessions".
func NewSessions() *cobra.Command {
	cmd := &cobra.Command{Use: "sessions <subcommand>",
		Short: "Sessions: who is connected, and what they hold and wait for"}
	var leases bool
	ls := &cobra.Command{
		Use: "ls", Short: "Lists the sessions",
		RunE: inspect(0, "sessions ls takes no arguments",
			func(i *inspection, _ []string) error { return listSessions(i, leases) }),
	}
	ls.Flags().BoolVar(&leases, "leases", false, "list leases that are no sessions, too")
	show := &cobra.Command{
		Use: "show ID", Short: "Shows one session and its entries",
		RunE: inspect(1, "sessions show takes the id of a session", showSession),
	}
	end := &cobra.Command{
		Use: "end ID", Short: "Ends a session or a lease: what it holds is handed on",
		RunE: inspect(1, "sessions end takes the id of a session", endSession),
	}
	cli.AddYesFlag(end)
	cmd.AddCommand(cli.Ours(ls, show, end)...)
	return cmd
}

// listSessions prints all pages as one list.
func listSessions(i *inspection, leases bool) error {
	all := &coordv1.ListSessionsResponse{}
	for req := (&coordv1.ListSessionsRequest{Leases: leases}); ; {
		page, err := i.ListSessions(i.ctx, req)
		if err != nil {
			return err
		}
		all.Sessions, all.Revision = append(all.Sessions, page.Sessions...), page.Revision
		if !page.More || len(page.Sessions) == 0 {
			break
		}
		req.After = page.Sessions[len(page.Sessions)-1].Id
	}
	return i.show(all, func(w io.Writer) {
		cli.Row(w, "SESSION", "HOST", "PROCESS", "TTL", "LEFT", "HOLDS", "WAITS", "KEYS", "LABELS")
		for _, s := range all.Sessions {
			id := s.Identity
			cli.Row(w, cli.HexID(s.Id), cli.Plain(id.GetHost()), cli.Plain(id.GetProcess()), Milliseconds(s.TtlMs),
				Milliseconds(s.RemainingMs), s.Holds, s.Waits, s.Keys, Labels(id.GetLabels()))
		}
	})
}

// Labels writes labels in the order of their names.
func Labels(of map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		out = append(out, cli.Plain(k+"="+of[k]))
	}
	return strings.Join(out, ",")
}

func showSession(i *inspection, args []string) error {
	resp, err := getSession(i, args[0])
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		s := resp.Session
		what := "lease"
		if s.Identity != nil {
			what = "session"
		}
		cli.Row(w, what+":", cli.HexID(s.Id))
		if s.Identity != nil {
			cli.Row(w, "host:", cli.Plain(s.Identity.Host))
			cli.Row(w, "process:", cli.Plain(s.Identity.Process))
			cli.Row(w, "labels:", Labels(s.Identity.Labels))
		}
		cli.Row(w, "ttl:", Milliseconds(s.TtlMs))
		cli.Row(w, "left:", Milliseconds(s.RemainingMs))
		for _, e := range resp.Entries {
			cli.Row(w, state(e)+":", objectName(e.Kind, e.Name),
				fmt.Sprintf("token %d, since %s", e.Entry.Token, since(e.Entry)))
		}
		for _, key := range resp.Keys {
			cli.Row(w, "key:", cli.Plain(string(key)))
		}
	})
}

func getSession(i *inspection, text string) (*coordv1.GetSessionResponse, error) {
	id, err := parseID(text)
	if err != nil {
		return nil, err
	}
	return i.GetSession(i.ctx, &coordv1.GetSessionRequest{Id: id})
}

func state(e *coordv1.QueueEntry) string {
	if e.Holds {
		return "holds"
	}
	return fmt.Sprintf("waits behind %d", e.Position)
}

func endSession(i *inspection, args []string) error {
	resp, err := getSession(i, args[0])
	if err != nil {
		return err
	}
	s := resp.Session
	if err := cli.Confirm(i.cmd,
		fmt.Sprintf("this ends %s of %q on %q, which holds %d and waits for %d", cli.HexID(s.Id),
			s.Identity.GetProcess(),
			s.Identity.GetHost(), s.Holds, s.Waits)); err != nil {
		return err
	}
	ended, err := i.EndSession(i.ctx, &coordv1.EndSessionRequest{Id: s.Id})
	if err != nil {
		return err
	}
	return i.show(ended, func(w io.Writer) { cli.Row(w, "session "+cli.HexID(s.Id)+" ended") })
}
