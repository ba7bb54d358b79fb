package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// What "why" takes in front of a name.
const (
	lockPrefix     = "lock/"
	electionPrefix = "election/"
)

func newLocksCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "locks <subcommand>", Short: "Locks: who holds and who waits", GroupID: groupConcurrency}
	ls := newListCommand("Lists the locks whose names begin with PREFIX", coordv1.QueueKind_QUEUE_LOCK)
	show := &cobra.Command{
		Use: "show NAME", Short: "Shows who holds a lock and who waits for it",
		RunE: inspect(1, "locks show takes the name of a lock", func(i *inspection, args []string) error {
			return showQueue(i, coordv1.QueueKind_QUEUE_LOCK, args[0])
		}),
	}
	req := &coordv1.ForceReleaseRequest{Kind: coordv1.QueueKind_QUEUE_LOCK}
	release := &cobra.Command{
		Use: "release NAME --reason TEXT", Short: "Takes a lock away from whoever holds it; the next one holds",
		Long: `Removes the holder's entry, whoever it is: the next one in the queue holds at once. The holder is told, with the reason.
If it goes on all the same, only a resource that checks the fencing token is safe.`,
		RunE: inspect(1, "locks release takes the name of a lock", func(i *inspection, args []string) error {
			req.Name = args[0]
			return release(i, req)
		}),
	}
	release.Flags().StringVar(&req.Reason, "reason", "", "why; told to the holder (required)")
	release.Flags().Int64Var(&req.Token, "token", 0, "only if this is the holder's fencing token")
	addYesFlag(release)
	cmd.AddCommand(ours(ls, show, release)...)
	return cmd
}

func newElectionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "elections <subcommand>", Short: "Elections: who leads and who stands by", GroupID: groupConcurrency}
	ls := newListCommand("Lists the elections whose names begin with PREFIX", coordv1.QueueKind_QUEUE_ELECTION)
	show := &cobra.Command{
		Use: "show NAME", Short: "Shows who leads and who stands by",
		RunE: inspect(1, "elections show takes the name of an election", func(i *inspection, args []string) error {
			return showQueue(i, coordv1.QueueKind_QUEUE_ELECTION, args[0])
		}),
	}
	var to string
	transfer := &cobra.Command{
		Use: "transfer NAME --to KEY", Short: "Makes another candidate the leader",
		Long: `Makes the candidate whose entry is KEY, as "elections show" prints it, the leader. The old leader is out of the election.`,
		RunE: inspect(1, "elections transfer takes the name of an election", func(i *inspection, args []string) error {
			return transfer(i, args[0], to)
		}),
	}
	transfer.Flags().StringVar(&to, "to", "", "the key of the candidate's entry (required)")
	addYesFlag(transfer)
	cmd.AddCommand(ours(ls, show, transfer)...)
	return cmd
}

// newListCommand makes "ls" of locks or elections.
func newListCommand(short string, kind coordv1.QueueKind) *cobra.Command {
	return &cobra.Command{
		Use: "ls [PREFIX]", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(min(len(args), 1), "ls takes a prefix of names at most", func(i *inspection, args []string) error {
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
	return i.show(all, func(w io.Writer) {
		row(w, "NAME", "KIND", "HOLDER", "TOKEN", "SESSION", "HOST", "SINCE", "WAITING")
		for _, q := range all.Queues {
			holder := who(q.Kind, q.Holder)
			if q.Holder == nil {
				holder = "(kept for " + milliseconds(q.LingerMs) + ")"
			}
			row(w, plain(q.Name), kindName(q.Kind), holder, q.Holder.GetToken(), hexID(q.Holder.GetLease()), plain(q.Identity.GetHost()), since(q.Holder), q.Waiting)
		}
	})
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

func kindName(kind coordv1.QueueKind) string {
	switch kind {
	case coordv1.QueueKind_QUEUE_LOCK:
		return "lock"
	case coordv1.QueueKind_QUEUE_ELECTION:
		return "election"
	case coordv1.QueueKind_QUEUE_PRIORITY_ELECTION:
		return "priorities"
	}
	return strings.ToLower(strings.TrimPrefix(kind.String(), "QUEUE_"))
}

func showQueue(i *inspection, kind coordv1.QueueKind, name string) error {
	resp, err := explainQueue(i.ctx, i, kind, name)
	if err != nil {
		return err
	}
	q := resp.Queue
	return i.show(resp, func(w io.Writer) {
		row(w, "", "OWNER", "TOKEN", "SESSION", "SINCE", "KEY")
		line := func(place string, e *coordv1.Entry) {
			row(w, place, who(q.Kind, e), e.Token, hexID(e.Lease), since(e), plain(e.Key))
		}
		if q.Holder != nil {
			line("holds", q.Holder)
		}
		if q.LingerMs > 0 {
			row(w, "kept", "(for "+milliseconds(q.LingerMs)+")")
		}
		for n, e := range resp.Waiters {
			line(fmt.Sprint(n+1), e)
		}
		if more := q.Waiting - int64(len(resp.Waiters)); more > 0 {
			row(w, "…", fmt.Sprintf("%d more", more))
		}
	})
}

// explainQueue explains a lock or an election; where nobody takes part in a plain election, that with priorities.
func explainQueue(ctx context.Context, i coordv1.IntrospectionClient, kind coordv1.QueueKind, name string) (*coordv1.ExplainResponse, error) {
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
		return badArgs("locks release needs a --reason, which the holder is told")
	}
	found, err := explainQueue(i.ctx, i, req.Kind, req.Name)
	if err != nil {
		return err
	}
	holder := found.Queue.Holder
	if holder == nil {
		return fmt.Errorf("nothing to release: %s", found.Sentence)
	}
	if err := mustConfirm(i.cmd, "this takes the lock away: "+found.Sentence); err != nil {
		return err
	}
	if req.Token == 0 {
		req.Token = holder.Token // nobody who came after the question
	}
	resp, err := i.ForceRelease(i.ctx, req)
	if err != nil {
		return err
	}
	return i.show(resp, func(w io.Writer) {
		row(w, fmt.Sprintf("lock %s released: it was held by %s with token %d", req.Name, who(req.Kind, resp.Removed), resp.Removed.GetToken()))
	})
}

func transfer(i *inspection, name, to string) error {
	if to == "" {
		return badArgs("elections transfer needs --to, the key of a candidate's entry")
	}
	found, err := explainQueue(i.ctx, i, coordv1.QueueKind_QUEUE_ELECTION, name)
	if err != nil {
		return err
	}
	if leader := found.Queue.Holder; leader != nil {
		if err := confirm(i.cmd, fmt.Sprintf("this makes %s the leader in place of %s", plain(to), who(found.Queue.Kind, leader))); err != nil {
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
	return i.show(resp, func(w io.Writer) { row(w, fmt.Sprintf("election %s is led by %s in term %d", name, to, resp.Term)) })
}
