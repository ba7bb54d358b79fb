package objects

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// NewGroup makes "coordctl group".
func NewGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group <subcommand>", Short: "Groups: who is there",
		Long: `A member of a group is there for as long as the process that joined lives.

Output formats (-w): simple, table, json and yaml.

Exit code: 75 when another session is the member of the id (join), 76 when the membership was lost (join).`,
	}
	cmd.AddCommand(cli.Ours(newGroupJoinCommand(), newGroupListCommand(), newGroupWatchCommand())...)
	return cmd
}

func newGroupJoinCommand() *cobra.Command {
	var data string
	ttl := cli.Seconds(10 * time.Second)
	cmd := &cobra.Command{
		Use: "join NAME ID [--data DATA] [--ttl DURATION]", Short: "Is a member of a group for as long as it runs",
		Long: `Joins and stays until INT or TERM, which leaves the group. If coordctl dies, the member is gone when its TTL is over. A line says
when it has joined.`,
		RunE: cli.SDKVerb(2, 2, "group join takes the name of a group and the id of a member",
			func(ctx context.Context, r *cli.Run, args []string) error {
				if ttl == 0 {
					return cli.BadArgs("--ttl must be greater than zero")
				}
				return joinGroup(ctx, r, args[0], args[1], data, time.Duration(ttl))
			}),
	}
	cmd.Flags().StringVar(&data, "data", "", "what others see of the member")
	cmd.Flags().Var(&ttl, "ttl", "time after which a silent coordctl is taken for dead")
	return cmd
}

func joinGroup(ctx context.Context, r *cli.Run, name, id, data string, ttl time.Duration) error {
	bounded, cancel := r.Bounded(ctx)
	defer cancel()
	s, err := r.Client.NewSession(bounded, client.WithTTL(ttl))
	if err != nil {
		return cli.Told(bounded, err)
	}
	m, err := s.Group(name).Join(bounded, id, []byte(data))
	if err != nil {
		_ = s.Close(bounded)
		return objectError(bounded, err)
	}
	fmt.Fprintf(r.Cmd.OutOrStdout(), "joined group %s as %s\n", cli.Plain(name), cli.Plain(id))
	select {
	case <-ctx.Done():
	case <-m.Done():
		return cli.ExitWith(cli.ExitLost, fmt.Errorf("member %s of group %s is lost: %w", id, name, m.Err()))
	}
	last, cancel := r.Bounded(context.Background())
	defer cancel()
	if err := s.Close(last); err != nil {
		fmt.Fprintf(os.Stderr, "Warning: the member is gone only when its TTL of %v is over: %v\n", ttl,
			cli.Told(last, err))
	}
	return nil
}

// groupMember is a member as -w json has it.
type groupMember struct {
	ID      string `json:"id"`
	Data    string `json:"data"`
	Joined  int64  `json:"joined"` // a revision
	Session string `json:"session"`
}

func groupMembers(members []client.Member) []groupMember {
	forms := make([]groupMember, len(members))
	for i, m := range members {
		forms[i] = groupMember{m.ID, string(m.Data), m.Joined, cli.HexID(int64(m.Session))}
	}
	return forms
}

func newGroupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls [NAME]", Short: "Lists the members of a group, or all groups",
		RunE: cli.SDKVerb(0, 1, "group ls takes the name of a group, or nothing",
			func(ctx context.Context, r *cli.Run, args []string) error {
				if len(args) == 0 {
					return listGroups(ctx, r)
				}
				ctx, cancel := r.Bounded(ctx)
				defer cancel()
				members, _, err := r.Client.Group(args[0]).Members(ctx)
				if err != nil {
					return objectError(ctx, err)
				}
				rows := [][]any{{"ID", "DATA", "JOINED", "SESSION"}}
				for _, m := range groupMembers(members) {
					rows = append(rows, []any{cli.Plain(m.ID), cli.OrDash(m.Data), m.Joined, m.Session})
				}
				return r.PrintTable(groupMembers(members), rows...)
			}),
	}
}

// groupForm is a group as -w json has it.
type groupForm struct {
	Name    string `json:"name"`
	Members int    `json:"members"`
}

func listGroups(ctx context.Context, r *cli.Run) error {
	kvs, err := objectsOf(ctx, r, layout.Group, nil)
	if err != nil {
		return err
	}
	sizes := map[string]int{}
	for _, kv := range kvs {
		p, _ := layout.Parse(string(kv.Key))
		if _, ok := objects.ParseMember(p.Name, kv); ok {
			sizes[p.Name]++
		}
	}
	forms, rows := []groupForm{}, [][]any{{"NAME", "MEMBERS"}}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		forms, rows = append(forms, groupForm{name, sizes[name]}), append(rows, []any{cli.Plain(name), sizes[name]})
	}
	return r.PrintTable(forms, rows...)
}

// changeForm is a change of a group as -w json has it.
type changeForm struct {
	Revision int64         `json:"revision"`
	Joined   []groupMember `json:"joined,omitempty"`
	Left     []groupMember `json:"left,omitempty"`
	Updated  []groupMember `json:"updated,omitempty"`
	Members  int           `json:"members"`
	Gap      bool          `json:"gap,omitempty"`
}

func newGroupWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch NAME", Short: "Prints the members of a group and who comes and goes, until a signal",
		Long: `Prints a line for each who is there, and then for each who joins, leaves or has other data. Where changes were missed, a line on
the standard error says so, and the difference follows. In JSON and YAML each change is a document.`,
		RunE: cli.SDKVerb(1, 1, "group watch takes the name of a group",
			func(ctx context.Context, r *cli.Run, args []string) error {
				for c, err := range r.Client.Group(args[0]).Watch(ctx) {
					switch {
					case err != nil && ctx.Err() != nil: // a signal is how a watch ends
						return nil
					case err != nil:
						return objectError(ctx, err)
					}
					form := changeForm{c.Revision, groupMembers(c.Joined), groupMembers(c.Left),
						groupMembers(c.Updated),
						len(c.Members), c.Gap}
					if err := r.Print(form, form.lines); err != nil {
						return err
					}
					if c.Gap {
						fmt.Fprintln(os.Stderr, "Warning: changes were missed; this is the difference")
					}
				}
				return nil
			}),
	}
}

// lines are a change for people.
func (c changeForm) lines(w io.Writer) {
	for _, part := range []struct {
		what    string
		members []groupMember
	}{{"left", c.Left}, {"joined", c.Joined}, {"updated", c.Updated}} {
		for _, m := range part.members {
			line := part.what + " " + cli.Plain(m.ID)
			if m.Data != "" {
				line += ": " + cli.Plain(m.Data)
			}
			fmt.Fprintln(w, line)
		}
	}
}
