package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// inspection is one run of a verb that looks at sessions, locks and elections, or changes them from outside.
type inspection struct {
	coordv1.IntrospectionClient
	*cli.Printer
	kv  clientv3.KV
	ctx context.Context
	cmd *cobra.Command
}

// inspect makes a verb of fn, which gets the n arguments that usage names.
func inspect(n int, usage string, fn func(i *inspection, args []string) error) cli.RunE {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return cli.BadArgs("%s", usage)
		}
		return cli.WithEtcd(cmd, func(g *cli.Globals, p *cli.Printer, etcd *clientv3.Client) error {
			i := &inspection{NewClient(etcd, g.Reach), p, etcd, cmd.Context(), cmd}
			return Explained(fn(i, args), g)
		})
	}
}

// NewClient asks over the connection of etcd's client. Each call waits for a member that can be reached, for as long as
// reach.
func NewClient(etcd *clientv3.Client, reach time.Duration) coordv1.IntrospectionClient {
	return coordv1.NewIntrospectionClient(patient{etcd.ActiveConnection(), reach})
}

// patient waits with each call for a member that can be reached, for a while.
type patient struct {
	grpc.ClientConnInterface
	reach time.Duration
}

// Invoke implements grpc.ClientConnInterface.
func (p patient) Invoke(ctx context.Context, method string, req, resp any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, p.reach)
	defer cancel()
	return p.ClientConnInterface.Invoke(ctx, method, req, resp, append(opts, grpc.WaitForReady(true))...)
}

// Explained turns an error of the service into the one line that coordctl ends with.
func Explained(err error, g *cli.Globals) error {
	st, fromServer := status.FromError(err)
	switch {
	case err == nil:
		return nil
	case st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("%w (endpoints %s)", cli.ErrUnreachable, g.Endpoints())
	case st.Code() == codes.Unimplemented:
		return cli.ErrNotCoord
	case fromServer:
		return errors.New(st.Message())
	}
	return err
}

// show prints resp, and for people what fill writes by row.
func (i *inspection) show(resp proto.Message, fill func(w io.Writer)) error {
	return i.Print(resp, cli.Columns(fill))
}

// parseID reads the id of a session or lease as it is printed: in hex.
func parseID(text string) (int64, error) {
	id, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	if err != nil {
		return 0, cli.BadArgs("bad session id %q: it is a number in hex, as \"%s sessions ls\" prints", text,
			cli.Program)
	}
	return int64(id), nil
}

// leaseCell is the session or lease of an entry in a list.
func leaseCell(e *coordv1.Entry) string {
	if len(e.GetForeignKey()) > 0 && e.Lease == 0 {
		return "-"
	}
	return cli.HexID(e.GetLease())
}

// Milliseconds is a duration as people read it.
func Milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// since is when an entry was made.
func since(e *coordv1.Entry) string {
	if e.GetSinceUnixMs() == 0 {
		return "unknown"
	}
	return time.UnixMilli(e.SinceUnixMs).Format(time.RFC3339)
}

// Who is ownerOf on one line.
func Who(kind coordv1.QueueKind, e *coordv1.Entry) string { return cli.Plain(OwnerOf(kind, e)) }

// OwnerOf is what the entry of a lock or an election says about its owner.
func OwnerOf(kind coordv1.QueueKind, e *coordv1.Entry) string {
	switch {
	case len(e.GetForeignKey()) > 0 && e.Lease == 0:
		return fmt.Sprintf("(key %q of no lease)", e.ForeignKey)
	case len(e.GetForeignKey()) > 0:
		return fmt.Sprintf("(key %q of another client)", e.ForeignKey)
	}
	if text := e.GetOwner(); text != "" && !IsElection(kind) {
		return text
	}
	return string(e.GetValue())
}

// IsElection tells elections from locks; queues of etcd clients alone may be both.
func IsElection(kind coordv1.QueueKind) bool {
	return kind == coordv1.QueueKind_QUEUE_ELECTION || kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
}
