package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func newSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sessions <subcommand>", Short: "Sessions: who is connected, and what they hold and wait for", GroupID: groupConcurrency}
	var leases bool
	ls := &cobra.Command{
		Use: "ls", Short: "Lists the sessions",
		RunE: inspect(0, "sessions ls takes no arguments", func(i *inspection, _ []string) error { return listSessions(i, leases) }),
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
	addYesFlag(end)
	cmd.AddCommand(ours(ls, show, end)...)
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
		row(w, "SESSION", "HOST", "PROCESS", "TTL", "LEFT", "HOLDS", "WAITS", "KEYS", "LABELS")
		for _, s := range all.Sessions {
			id := s.Identity
			row(w, hexID(s.Id), plain(id.GetHost()), plain(id.GetProcess()), milliseconds(s.TtlMs), milliseconds(s.RemainingMs), s.Holds, s.Waits, s.Keys, labels(id.GetLabels()))
		}
	})
}

// labels writes labels in the order of their names.
func labels(of map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		out = append(out, plain(k+"="+of[k]))
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
		row(w, what+":", hexID(s.Id))
		if s.Identity != nil {
			row(w, "host:", plain(s.Identity.Host))
			row(w, "process:", plain(s.Identity.Process))
			row(w, "labels:", labels(s.Identity.Labels))
		}
		row(w, "ttl:", milliseconds(s.TtlMs))
		row(w, "left:", milliseconds(s.RemainingMs))
		for _, e := range resp.Entries {
			row(w, state(e)+":", objectName(e.Kind, e.Name), fmt.Sprintf("token %d, since %s", e.Entry.Token, since(e.Entry)))
		}
		for _, key := range resp.Keys {
			row(w, "key:", plain(string(key)))
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
	if err := confirm(i.cmd, fmt.Sprintf("this ends %s of %q on %q, which holds %d and waits for %d", hexID(s.Id), s.Identity.GetProcess(), s.Identity.GetHost(), s.Holds, s.Waits)); err != nil {
		return err
	}
	ended, err := i.EndSession(i.ctx, &coordv1.EndSessionRequest{Id: s.Id})
	if err != nil {
		return err
	}
	return i.show(ended, func(w io.Writer) { row(w, "session "+hexID(s.Id)+" ended") })
}
