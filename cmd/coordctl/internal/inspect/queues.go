package inspect

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// NewLocks makes "coordctl locks".
func NewLocks() *cobra.Command {
	cmd := &cobra.Command{
		Use: "locks <subcommand>", Short: "Locks: who holds and who waits",
		Long: `Shows locks, and releases them. "locks ls" lists read-write locks, semaphores and double barriers, too: their own commands show the
rest.`,
	}
	cmd.AddCommand(cli.Ours(
		NewList("Lists what is held or waited for and is no election, of that whose name begins with PREFIX",
			coordv1.QueueKind_QUEUE_UNSPECIFIED),
		NewShow("Shows who holds a lock and who waits for it", coordv1.QueueKind_QUEUE_LOCK),
		NewRelease("Takes a lock away from whoever holds it; the next one holds", coordv1.QueueKind_QUEUE_LOCK),
	)...)
	return cmd
}

// NewElections makes "coordctl elections".
func NewElections() *cobra.Command {
	cmd := &cobra.Command{Use: "elections <subcommand>", Short: "Elections: who leads and who stands by"}
	var to string
	transfer := &cobra.Command{
		Use: "transfer NAME --to KEY", Short: "Makes another candidate the leader",
		Long: `Makes the candidate whose entry is KEY, as "elections show" prints it, the leader. The old leader is out of the election.`,
		RunE: inspect(1, "elections transfer takes the name of an election", func(i *inspection, args []string) error {
			return transfer(i, args[0], to)
		}),
	}
	transfer.Flags().StringVar(&to, "to", "", "the key of the candidate's entry (required)")
	cli.AddYesFlag(transfer)
	cmd.AddCommand(cli.Ours(
		NewList("Lists the elections whose names begin with PREFIX", coordv1.QueueKind_QUEUE_ELECTION),
		NewShow("Shows who leads and who stands by", coordv1.QueueKind_QUEUE_ELECTION),
		transfer,
	)...)
	return cmd
}

// NewShow makes "show" of a kind.
func NewShow(short string, kind coordv1.QueueKind) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: short,
		RunE: inspect(1, "show takes the name of a "+kindPhrase(kind), func(i *inspection, args []string) error {
			return showQueue(i, kind, args[0])
		}),
	}
}

// NewRelease makes "release" of a kind.
func NewRelease(short string, kind coordv1.QueueKind) *cobra.Command {
	req, key := &coordv1.ForceReleaseRequest{Kind: kind}, ""
	cmd := &cobra.Command{
		Use: "release NAME --reason TEXT [--token TOKEN] [--entry KEY]", Short: short,
		Long: `Removes a holder's entry, whoever it is: who is next holds at once. The holder is told, with the reason. If it goes on all the
same, only a resource that checks the fencing token is safe. Where several hold, --token says which of them, as "show" prints it.

A key that another client put directly below NAME is removed only when --entry names it in full, as "show" and "why" print it: nobody here knows
whether its client still acts by it. In quotes it is taken as Go writes strings, for keys that are not UTF-8.`,
		RunE: inspect(1, "release takes the name of a "+kindPhrase(kind), func(i *inspection, args []string) error {
			req.Name = args[0]
			var err error
			if req.Key, err = parseKey(key); err != nil {
				return err
			}
			return release(i, req)
		}),
	}
	cmd.Flags().StringVar(&key, "entry", "", "the full key of the entry, or of another client's key, to remove")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; told to the holder (required)")
	cmd.Flags().Int64Var(&req.Token, "token", 0, "only if this is the holder's fencing token")
	cli.AddYesFlag(cmd)
	return cmd
}

// NewList makes "ls" of a kind; QUEUE_UNSPECIFIED is all but elections.
func NewList(short string, kind coordv1.QueueKind) *cobra.Command {
	return &cobra.Command{
		Use: "ls [PREFIX]", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(min(len(args), 1), "ls takes a prefix of names at most",
				func(i *inspection, args []string) error {
					return listQueues(i, kind, strings.Join(args, ""))
				})(cmd, args)
		},
	}
}

// listQueues prints all pages as one list. The kind of an election has another one beside it.
func listQueues(i *inspection, kind coordv1.QueueKind, prefix string) error {
	all, err := allQueues(i, kind, prefix)
	if err != nil {
		return err
	}
	if kind == coordv1.QueueKind_QUEUE_UNSPECIFIED {
		all.Queues = slices.DeleteFunc(all.Queues, func(q *coordv1.QueueInfo) bool { return IsElection(q.Kind) })
	}
	return i.show(all, func(w io.Writer) {
		head := []any{"NAME", "KIND", "HOLDER", "TOKEN", "SESSION", "HOST", "SINCE", "WAITING"}
		if kind == coordv1.QueueKind_QUEUE_SEMAPHORE {
			head = append(head, "HELD", "LIMIT", "WANTED")
		}
		cli.Row(w, head...)
		for _, q := range all.Queues {
			cells := []any{cli.Plain(q.Name), KindName(q.Kind), holderCell(q), q.Holder.GetToken(), leaseCell(q.Holder),
				cli.Plain(q.Identity.GetHost()), since(q.Holder), q.Waiting}
			if kind == coordv1.QueueKind_QUEUE_SEMAPHORE {
				cells = append(cells, q.Semaphore.GetHeld(), q.Semaphore.GetLimit(), q.Semaphore.GetWanted())
			}
			cli.Row(w, cells...)
		}
	})
}

// holderCell is who holds, the oldest of them, in a list.
func holderCell(q *coordv1.QueueInfo) string {
	switch {
	case q.Holder == nil && q.LingerMs > 0:
		return "(kept for " + Milliseconds(q.LingerMs) + ")"
	case q.Holder == nil:
		return "(nobody)"
	}
	cell := Who(q.Kind, q.Holder)
	if q.Kind == coordv1.QueueKind_QUEUE_RWLOCK {
		cell += " " + mode(q.Holder) + "s"
	}
	if q.Holding > 1 {
		cell += fmt.Sprintf(" and %d more", q.Holding-1)
	}
	return cell
}

// mode is what an entry of a read-write lock wants to do.
func mode(e *coordv1.Entry) string {
	if e.GetWrite() {
		return "write"
	}
	return "read"
}

func allQueues(i *inspection, kind coordv1.QueueKind, prefix string) (*coordv1.ListQueuesResponse, error) {
	all := &coordv1.ListQueuesResponse{}
	for req := (&coordv1.ListQueuesRequest{Prefix: prefix, Kind: kind}); ; {
		page, err := i.ListQueues(i.ctx, req)
		if err != nil {
			return nil, err
		}
		all.Queues, all.Revision = append(all.Queues, page.Queues...), page.Revision
		if !page.More || len(page.Queues) == 0 {
			return all, nil
		}
		req.After = page.Queues[len(page.Queues)-1].Name
	}
}

// KindName is a kind as it is printed and as why takes it.
func KindName(kind coordv1.QueueKind) string {
	if kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION {
		return "priorities"
	}
	return strings.ToLower(strings.TrimPrefix(kind.String(), "QUEUE_"))
}

// kindPhrase is a kind in a sentence.
func kindPhrase(kind coordv1.QueueKind) string {
	if kind == coordv1.QueueKind_QUEUE_RWLOCK {
		return "read-write lock"
	}
	return KindName(kind)
}

func showQueue(i *inspection, kind coordv1.QueueKind, name string) error {
	resp, err := Explain(i.ctx, i, kind, name)
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) { showEntries(w, resp) })
}

// showEntries writes who holds and who waits.
func showEntries(w io.Writer, resp *coordv1.ExplainResponse) {
	q := resp.Queue
	what, cell := howTheyHold(q)
	cells := func(cells []any, how any) []any {
		if what == "" {
			return cells
		}
		return slices.Insert(cells, 2, how)
	}
	if text := inAll(q); text != "" {
		cli.Row(w, text)
	}
	cli.Row(w, cells([]any{"", "OWNER", "TOKEN", "SESSION", "SINCE", "KEY"}, what)...)
	line := func(place string, e *coordv1.Entry) {
		cli.Row(w, cells([]any{place, Who(q.Kind, e), e.Token, leaseCell(e), since(e), cli.Plain(e.Key)}, cell(e))...)
	}
	more := func(n int64) {
		if n > 0 {
			cli.Row(w, "…", fmt.Sprintf("%d more", n))
		}
	}
	for _, e := range resp.Holders {
		line("holds", e)
	}
	more(q.Holding - int64(len(resp.Holders)))
	if q.LingerMs > 0 {
		cli.Row(w, "kept", "(for "+Milliseconds(q.LingerMs)+")")
	}
	for n, e := range resp.Waiters {
		line(fmt.Sprint(n+1), e)
	}
	more(q.Waiting - int64(len(resp.Waiters)))
}

// howTheyHold is the head and the cells of what else there is to say of an entry; nothing if the head is empty.
func howTheyHold(q *coordv1.QueueInfo) (head string, cell func(*coordv1.Entry) any) {
	switch q.Kind {
	case coordv1.QueueKind_QUEUE_RWLOCK:
		return "MODE", func(e *coordv1.Entry) any { return mode(e) }
	case coordv1.QueueKind_QUEUE_SEMAPHORE:
		return "PERMITS", func(e *coordv1.Entry) any { return e.Permits }
	}
	return "", func(*coordv1.Entry) any { return nil }
}

// inAll is what a semaphore or a barrier is, whoever holds.
func inAll(q *coordv1.QueueInfo) string {
	switch b := q.Barrier; {
	case q.Semaphore != nil:
		return fmt.Sprintf("%d of %d permits held, %d wanted", q.Semaphore.Held, q.Semaphore.Limit, q.Semaphore.Wanted)
	case b != nil && b.Open:
		return fmt.Sprintf("generation %d is open, %d of %d parties inside", b.Generation, b.Arrived, b.Parties)
	case b != nil && b.Arrived == 0:
		return fmt.Sprintf("generation %d is over, nobody is there", b.Generation)
	case b != nil:
		return fmt.Sprintf("generation %d is over, %d of %d parties there", b.Generation, b.Arrived, b.Parties)
	}
	return ""
}

// Explain explains a lock or an election; where nobody takes part in a plain election, that with priorities.
func Explain(ctx context.Context, i coordv1.IntrospectionClient, kind coordv1.QueueKind,
	name string) (*coordv1.ExplainResponse, error) {
	resp, err := i.Explain(ctx, &coordv1.ExplainRequest{Kind: kind, Name: name})
	if err != nil || kind != coordv1.QueueKind_QUEUE_ELECTION || resp.Queue.Holder != nil || resp.Queue.LingerMs > 0 {
		return resp, err
	}
	other, err := i.Explain(ctx, &coordv1.ExplainRequest{Kind: coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, Name: name})
	if err != nil || other.Queue.Holder == nil && other.Queue.LingerMs == 0 {
		return resp, err
	}
	return other, nil
}

func release(i *inspection, req *coordv1.ForceReleaseRequest) error {
	if req.Reason == "" {
		return cli.BadArgs("release needs a --reason, which the holder is told")
	}
	asked := req.Kind
	if len(req.Key) > 0 && req.Kind == coordv1.QueueKind_QUEUE_LOCK {
		req.Kind = coordv1.QueueKind_QUEUE_UNSPECIFIED // elections stand below their names in the same way
	}
	found, err := Explain(i.ctx, i, req.Kind, req.Name)
	if err != nil {
		return err
	}
	switch {
	case len(req.Key) > 0:
		return releaseKey(i, asked, req, found)
	case len(found.Holders) == 0:
		return fmt.Errorf("nothing to release: %s", found.Sentence)
	case len(found.Holders[0].ForeignKey) > 0:
		return fmt.Errorf("not released: %s", found.Sentence)
	case req.Token != 0:
	case found.Queue.Holding > 1:
		return cli.BadArgs("%d hold %s: --token says which of them", found.Queue.Holding,
			objectName(req.Kind, req.Name))
	default:
		req.Token = found.Queue.Holder.Token // nobody who came after the question
	}
	if err := cli.Confirm(i.cmd,
		fmt.Sprintf("this takes away what is held with token %d: %s", req.Token, found.Sentence)); err != nil {
		return err
	}
	resp, err := i.ForceRelease(i.ctx, req)
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		cli.Row(w,
			fmt.Sprintf("%s %s released: it was held by %s with token %d", kindPhrase(req.Kind), cli.Plain(req.Name),
				Who(req.Kind, resp.Removed), resp.Removed.GetToken()))
	})
}

// parseKey reads a key as people write it: in quotes where it is not UTF-8.
func parseKey(text string) ([]byte, error) {
	if !strings.HasPrefix(text, `"`) {
		return []byte(text), nil
	}
	key, err := strconv.Unquote(text)
	if err != nil {
		return nil, cli.BadArgs("--entry %s is not a quoted string: %v", text, err)
	}
	return []byte(key), nil
}

// releaseKey removes the entry of a key. What is known of a queue of other clients' keys alone is the kind that was
// asked for.
func releaseKey(i *inspection, kind coordv1.QueueKind, req *coordv1.ForceReleaseRequest,
	found *coordv1.ExplainResponse) error {
	if k := found.Queue.Kind; k != coordv1.QueueKind_QUEUE_UNSPECIFIED && k != coordv1.QueueKind_QUEUE_ETCD {
		kind = k
	}
	if err := cli.Confirm(i.cmd, fmt.Sprintf("this deletes key %q; %s", req.Key, found.Sentence)); err != nil {
		return err
	}
	resp, err := i.ForceRelease(i.ctx, req)
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		cli.Row(w,
			fmt.Sprintf("key %q of %s %s deleted: it had token %d", req.Key, kindPhrase(kind), cli.Plain(req.Name),
				resp.Removed.GetToken()))
	})
}

func transfer(i *inspection, name, to string) error {
	if to == "" {
		return cli.BadArgs("elections transfer needs --to, the key of a candidate's entry")
	}
	if !strings.Contains(to, "/") { // as each key of an entry does: it is a candidate's value
		return cli.BadArgs("--to %s is no key: it takes that of a candidate's entry, as \"%s elections show %s\" "+
			"prints it",
			cli.Plain(to), cli.Program, cli.Plain(name))
	}
	found, err := Explain(i.ctx, i, coordv1.QueueKind_QUEUE_ELECTION, name)
	if err != nil {
		return err
	}
	if leader := found.Queue.Holder; leader != nil {
		if err := cli.Confirm(i.cmd,
			fmt.Sprintf("this makes %s the leader in place of %s", cli.Plain(to),
				Who(found.Queue.Kind, leader))); err != nil {
			return err
		}
	}
	req := &coordv1.Transfer{Name: name, To: to}
	if found.Queue.Kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION {
		req.Priority = 1
	}
	resp, err := i.TransferLeadership(i.ctx, req)
	if err != nil {
		return err
	}
	return i.show(resp,
		func(w io.Writer) { cli.Row(w, fmt.Sprintf("election %s is led by %s in term %d", name, to, resp.Term)) })
}
