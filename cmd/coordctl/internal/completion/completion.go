package completion

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/contexts"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/client/registry"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Completion of arguments asks the cluster for names. It must not be in the way of who types: after completeTimeout,
// and on any error, there is nothing to offer and nothing is said.
const completeTimeout = 2 * time.Second

// asking is one question of a shell: what can stand where an argument begins with typed?
type asking struct {
	ctx   context.Context
	etcd  *clientv3.Client
	args  []string // those before
	typed string
}

// completer answers; it need not look at what was typed if there is little to choose from.
type completer func(q *asking) ([]cobra.Completion, error)

// completions are the completers of a command's arguments, in their order; the last one of a list is for all that
// follow if it is nil, which stands for files.
var completions = map[string][]completer{
	"lock": {locksNamed, nil},

	"locks ls":      {queuesNamed},
	"locks show":    {locksNamed},
	"locks release": {locksNamed},
	"elect":         {electionsNamed, nil},

	"elections ls":       {electionsNamed},
	"elections show":     {electionsNamed},
	"elections transfer": {electionsNamed},
	"why":                {queuesToExplain},

	"sessions show": {sessionIDs},
	"sessions end":  {sessionIDs},

	"service ls":       {servicesNamed},
	"service watch":    {servicesNamed},
	"service register": {servicesNamed},
	"service drain":    {servicesNamed, instanceIDs},

	"cfg get":        {bundlesNamed},
	"cfg history":    {bundlesNamed},
	"cfg watch":      {bundlesNamed},
	"cfg status":     {bundlesNamed},
	"cfg put":        {bundlesNamed, nil},
	"cfg rollback":   {bundlesNamed, bundleVersions},
	"cfg diff":       {bundlesNamed, bundleVersions, bundleVersions},
	"cfg schema get": {bundlesNamed},
	"cfg schema set": {bundlesNamed, nil},
	"cfg schema rm":  {bundlesNamed},
	"cfg rm":         {bundlesNamed},

	"rwlock":         {rwlocksNamed, nil},
	"rwlock ls":      {rwlocksNamed},
	"rwlock show":    {rwlocksNamed},
	"rwlock release": {rwlocksNamed},

	"semaphore":         {semaphoresNamed, nil},
	"semaphore ls":      {semaphoresNamed},
	"semaphore show":    {semaphoresNamed},
	"semaphore release": {semaphoresNamed},
	"semaphore resize":  {semaphoresNamed},
	"semaphore rm":      {semaphoresNamed},

	"counter add": {named(layout.Counter)},
	"counter get": {named(layout.Counter)},
	"counter set": {named(layout.Counter)},
	"counter ls":  {named(layout.Counter)},
	"counter rm":  {named(layout.Counter)},

	"sequence rm":   {named(layout.Sequence)},
	"sequence next": {named(layout.Sequence)},
	"sequence ls":   {named(layout.Sequence)},

	"latch rm":   {named(layout.Latch)},
	"latch set":  {named(layout.Latch)},
	"latch down": {named(layout.Latch)},
	"latch wait": {named(layout.Latch)},
	"latch show": {named(layout.Latch)},
	"latch ls":   {named(layout.Latch)},

	"barrier rm":    {barriersNamed},
	"barrier open":  {named(layout.Gate)},
	"barrier wait":  {named(layout.Gate)},
	"barrier close": {named(layout.Gate)},
	"barrier ls":    {named(layout.Gate)},
	"barrier show":  {barriersNamed},
	"barrier enter": {barriersNamed, nil},

	"group join":  {groupsNamed},
	"group ls":    {groupsNamed},
	"group watch": {groupsNamed},

	"member remove":  {memberIDs},
	"member update":  {memberIDs},
	"member promote": {memberIDs},
	"move-leader":    {memberIDs},
}

// Register gives the command line its completers.
func Register(root *cobra.Command) {
	mustRegister(root, "context", contexts.CompleteFlag)
	mustRegister(root, "write-out", completeFormat)
	addCompleters(root)
}

func addCompleters(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		addCompleters(cmd)
		path := strings.TrimPrefix(cmd.CommandPath(), cli.Program+" ")
		if of, ok := completions[path]; ok {
			cmd.ValidArgsFunction = completeArgs(of...)
		}
		if path == "elections transfer" {
			mustRegister(cmd, "to", complete(candidateKeys))
		}
	}
}

// mustRegister completes a flag, which exists.
func mustRegister(cmd *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err)
	}
}

// completeArgs completes the first argument with the first completer, and so on.
func completeArgs(of ...completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		n := len(args)
		if last := len(of) - 1; n > last && of[last] == nil {
			n = last
		}
		switch {
		case n >= len(of):
			return nil, cobra.ShellCompDirectiveNoFileComp
		case of[n] == nil:
			return nil, cobra.ShellCompDirectiveDefault
		}
		return complete(of[n])(cmd, args, typed)
	}
}

// complete asks the cluster.
func complete(of completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
		defer cancel()
		answer := make(chan []cobra.Completion, 1)
		go func() { // some of it, like the look-up of endpoints, does not end with ctx; the process ends soon
			found, _ := askCluster(ctx, cmd, of, args, typed)
			answer <- cli.Offered(found, typed)
		}()
		select {
		case found := <-answer:
			return found, cobra.ShellCompDirectiveNoFileComp
		case <-ctx.Done():
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// askCluster connects as the command on the line would.
func askCluster(ctx context.Context, cmd *cobra.Command, of completer, args []string,
	typed string) ([]cobra.Completion, error) {
	if err := contexts.FillFlags(cmd); err != nil {
		return nil, err
	}
	user, _ := cmd.Flags().GetString("user")
	password, _ := cmd.Flags().GetString("password")
	if user != "" && password == "" && !strings.Contains(user, ":") { // it would be asked for
		return nil, nil
	}
	g, err := cli.ReadGlobals(cmd)
	if err != nil {
		return nil, err
	}
	g.Spec.DialTimeout = completeTimeout
	etcd, err := g.Etcd()
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	return of(&asking{ctx, etcd, args, typed})
}

func (q *asking) introspection() coordv1.IntrospectionClient {
	return coordv1.NewIntrospectionClient(q.etcd.ActiveConnection())
}

var (
	queuesNamed     = queuesOf(coordv1.QueueKind_QUEUE_UNSPECIFIED)
	locksNamed      = queuesOf(coordv1.QueueKind_QUEUE_LOCK)
	electionsNamed  = queuesOf(coordv1.QueueKind_QUEUE_ELECTION)
	rwlocksNamed    = queuesOf(coordv1.QueueKind_QUEUE_RWLOCK)
	semaphoresNamed = queuesOf(coordv1.QueueKind_QUEUE_SEMAPHORE)
	barriersNamed   = queuesOf(coordv1.QueueKind_QUEUE_BARRIER)
)

// queuesOf are the names of a kind's queues; of all but elections if it is QUEUE_UNSPECIFIED.
func queuesOf(kind coordv1.QueueKind) completer {
	return func(q *asking) ([]cobra.Completion, error) { return q.queues(kind, q.typed) }
}

func (q *asking) queues(kind coordv1.QueueKind, prefix string) ([]cobra.Completion, error) {
	resp, err := q.introspection().ListQueues(q.ctx,
		&coordv1.ListQueuesRequest{Prefix: prefix, Kind: kind, Limit: cli.MaxCompletions})
	var names []cobra.Completion
	for _, queue := range resp.GetQueues() {
		if kind == coordv1.QueueKind_QUEUE_UNSPECIFIED && inspect.IsElection(queue.Kind) {
			continue
		}
		names = append(names, cli.Described(queue.Name, inspect.Who(queue.Kind, queue.Holder)))
	}
	return names, err
}

// named are the objects of a kind that have one key each.
func named(kind layout.Kind) completer {
	return func(q *asking) ([]cobra.Completion, error) {
		kvs, err := q.keys(kind)
		var names []cobra.Completion
		for _, kv := range kvs {
			if p, ok := layout.Parse(string(kv.Key)); ok {
				names = append(names, p.Name)
			}
		}
		return names, err
	}
}

func groupsNamed(q *asking) ([]cobra.Completion, error) {
	kvs, err := q.keys(layout.Group)
	var names []cobra.Completion
	for _, kv := range kvs {
		if p, ok := layout.Parse(string(kv.Key)); ok && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names, err
}

// keys are some of a kind, of names that begin with what was typed.
func (q *asking) keys(kind layout.Kind) ([]*mvccpb.KeyValue, error) {
	resp, err := q.etcd.Get(q.ctx, kind.Begin(q.typed), clientv3.WithPrefix(), clientv3.WithLimit(cli.MaxCompletions),
		clientv3.WithKeysOnly(), clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	return resp.Kvs, nil
}

// queuesToExplain are the objects of why.
func queuesToExplain(q *asking) ([]cobra.Completion, error) {
	var objects []cobra.Completion
	for _, kind := range inspect.ExplainedKinds {
		prefix := inspect.KindName(kind) + "/"
		name, ok := strings.CutPrefix(q.typed, prefix)
		if !ok {
			if !strings.HasPrefix(prefix, q.typed) {
				continue
			}
			name = ""
		}
		names, err := q.queues(kind, name)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			objects = append(objects, prefix+n)
		}
	}
	slices.Sort(objects)
	return objects, nil
}

// candidateKeys are those who can be made the leader of the election on the line.
func candidateKeys(q *asking) ([]cobra.Completion, error) {
	if len(q.args) == 0 {
		return nil, nil
	}
	resp, err := inspect.Explain(q.ctx, q.introspection(), coordv1.QueueKind_QUEUE_ELECTION, q.args[0])
	var keys []cobra.Completion
	for _, e := range resp.GetWaiters() {
		keys = append(keys, cli.Described(string(e.Key), inspect.Who(resp.Queue.Kind, e)))
	}
	return keys, err
}

func sessionIDs(q *asking) ([]cobra.Completion, error) {
	resp, err := q.introspection().ListSessions(q.ctx, &coordv1.ListSessionsRequest{})
	var ids []cobra.Completion
	for _, s := range resp.GetSessions() {
		ids = append(ids, cli.Described(cli.HexID(s.Id), s.Identity.GetProcess()+" on "+s.Identity.GetHost()))
	}
	return ids, err
}

func memberIDs(q *asking) ([]cobra.Completion, error) {
	resp, err := q.etcd.MemberList(q.ctx)
	if err != nil {
		return nil, err
	}
	var ids []cobra.Completion
	for _, m := range resp.Members {
		ids = append(ids, cli.Described(strconv.FormatUint(m.ID, 16), m.Name))
	}
	return ids, nil
}

func servicesNamed(q *asking) ([]cobra.Completion, error) { return q.escaped(layout.Service) }

func bundlesNamed(q *asking) ([]cobra.Completion, error) { return q.escaped(layout.Bundle) }

// escaped are the names of a kind that have several keys each and do not nest. It goes from name to name, so it costs
// as much for a name with many keys as for one with few.
func (q *asking) escaped(kind layout.Kind) ([]cobra.Completion, error) {
	var names []cobra.Completion
	from, end := kind.Begin(q.typed), clientv3.GetPrefixRangeEnd(kind.Dir())
	for len(names) < cli.MaxCompletions {
		resp, err := q.etcd.Get(q.ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly(),
			clientv3.WithSerializable())
		if err != nil {
			return names, err
		}
		if len(resp.Kvs) == 0 {
			break
		}
		p, ok := layout.Parse(string(resp.Kvs[0].Key))
		if !ok || !strings.HasPrefix(p.Name, q.typed) {
			break
		}
		names = append(names, p.Name)
		from = kind.Range(p.Name).End
	}
	return names, nil
}

func instanceIDs(q *asking) ([]cobra.Completion, error) {
	all, err := registry.New(q.etcd, registry.Options{}).List(q.ctx, q.args[0])
	var ids []cobra.Completion
	for _, in := range all {
		ids = append(ids, cli.Described(in.ID, in.State.String()))
	}
	return ids, err
}

func bundleVersions(q *asking) ([]cobra.Completion, error) {
	versions, err := config.History(q.ctx, q.etcd.ActiveConnection(), q.args[0], cli.MaxCompletions)
	var numbers []cobra.Completion
	for _, v := range versions {
		numbers = append(numbers, cli.Described(fmt.Sprint(v.Number), v.Reason))
	}
	return numbers, err
}

// completeFormat completes -w.
func completeFormat(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	formats := cli.EtcdFormats
	if cli.IsOurs(cmd) && cmd.Name() != "lock" && cmd.Name() != "elect" {
		formats = cli.OurFormats
	}
	return cli.Offered(slices.Clone(formats), typed), cobra.ShellCompDirectiveNoFileComp
}
