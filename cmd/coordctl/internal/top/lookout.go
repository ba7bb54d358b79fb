package top

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"
	"github.com/coord-dev/coord/cmd/coordctl/internal/service"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/coord-dev/coord/client/registry"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// The parts of a picture. Each is asked for by itself, and can fail by itself.
const (
	topMembers  = "members"
	topSessions = "sessions"
	topQueues   = "queues"
	topServices = "services"
)

// maxTopPages bounds what a picture costs the cluster, in pages of 1000: beyond, the counts are lower bounds.
const maxTopPages = 20

// picture is what top shows, and the form in which -w json and -w yaml print it.
type picture struct {
	Time      string            `json:"time"`
	Members   []memberForm      `json:"members"`
	Sessions  sessionsForm      `json:"sessions"`
	Locks     queuesForm        `json:"locks"` // and all else with a queue that is no election
	Elections queuesForm        `json:"elections"`
	Services  []service.Summary `json:"services"`
	Errors    map[string]string `json:"errors,omitempty"` // by part, which is then as it was before

	at     time.Time
	failed map[string]error
}

type (
	memberForm struct {
		ID       string   `json:"id"`
		Name     string   `json:"name"`
		Endpoint string   `json:"endpoint,omitempty"`
		Role     string   `json:"role"` // leader, follower, learner, or down: does not answer
		Lag      uint64   `json:"lag"`  // committed entries that it has not applied
		DBSize   int64    `json:"db_size"`
		Version  string   `json:"version,omitempty"`
		Errors   []string `json:"errors,omitempty"`
	}
	sessionsForm struct {
		Count   int           `json:"count"`
		More    bool          `json:"more,omitempty"` // than Count
		Holds   int64         `json:"holds"`
		Waits   int64         `json:"waits"`
		Soonest []sessionForm `json:"soonest"` // those with least time left
	}
	sessionForm struct {
		ID      string            `json:"id"`
		Host    string            `json:"host"`
		Process string            `json:"process"`
		Labels  map[string]string `json:"labels,omitempty"`
		LeftMS  int64             `json:"left_ms"`
		TTLMS   int64             `json:"ttl_ms"`
		Holds   int64             `json:"holds"`
		Waits   int64             `json:"waits"`
	}
	queuesForm struct {
		Count   int         `json:"count"`
		More    bool        `json:"more,omitempty"` // than Count
		Waiting int64       `json:"waiting"`
		Longest []queueForm `json:"longest"`
	}
	queueForm struct {
		Name    string `json:"name"`
		Kind    string `json:"kind"`
		Owner   string `json:"owner"` // of a lock its holder, of an election what the leader says of itself; "": kept for one that died
		Host    string `json:"host,omitempty"`
		Token   int64  `json:"token"`            // of an election the term
		AgeMS   int64  `json:"age_ms,omitempty"` // at least 1, unless it is unknown
		Waiting int64  `json:"waiting"`
	}
)

// lookout takes pictures of a cluster. Not safe for concurrent use.
type lookout struct {
	etcd          *clientv3.Client
	introspection coordv1.IntrospectionClient
	services      *registry.Registry
	g             *cli.Globals
	patience      time.Duration // for one picture
	rows          int           // of each list
	members       []*pb.Member  // as they were listed last
	last          picture
}

func newLookout(etcd *clientv3.Client, g *cli.Globals, rows int) *lookout {
	return &lookout{
		etcd: etcd, introspection: inspect.NewClient(etcd, g.Reach),
		services: registry.New(etcd, registry.Options{}), g: g, patience: g.Reach, rows: rows,
		last: picture{
			Members: []memberForm{}, Sessions: sessionsForm{Soonest: []sessionForm{}}, Services: []service.Summary{},
			Locks: queuesForm{Longest: []queueForm{}}, Elections: queuesForm{Longest: []queueForm{}},
		},
	}
}

// look takes a picture. A part that cannot be had is that of the picture before.
func (l *lookout) look(ctx context.Context) *picture {
	ctx, cancel := context.WithTimeoutCause(ctx, l.patience,
		fmt.Errorf("%w (endpoints %s)", cli.ErrUnreachable, l.g.Endpoints()))
	defer cancel()
	now := l.last
	now.failed = map[string]error{}
	var mu sync.Mutex
	var parts sync.WaitGroup
	for part, ask := range map[string]func(context.Context, *picture) error{
		topMembers: l.askMembers, topSessions: l.askSessions, topQueues: l.askQueues, topServices: l.askServices,
	} {
		parts.Go(func() {
			if err := inspect.Explained(cli.Told(ctx, ask(ctx, &now)), l.g); err != nil {
				mu.Lock()
				defer mu.Unlock()
				now.failed[part] = err
			}
		})
	}
	parts.Wait()
	now.at = time.Now()
	now.Time, now.Errors = cli.Stamp(now.at), nil
	for part, err := range now.failed {
		if now.Errors == nil {
			now.Errors = map[string]string{}
		}
		now.Errors[part] = err.Error()
	}
	l.last = now
	return &now
}

// askMembers asks each member for itself. Which there are any member says, also one that is cut off: who looks then
// wants to see that. It is what was known last, if nobody says.
func (l *lookout) askMembers(ctx context.Context, now *picture) error {
	resp, failed := l.etcd.MemberList(ctx, clientv3.WithSerializable())
	if failed == nil {
		l.members = resp.Members
		l.follow()
	}
	statuses := l.statuses(ctx)
	var committed uint64
	for _, s := range statuses {
		committed = max(committed, s.resp.RaftIndex)
	}
	forms := []memberForm{}
	for _, m := range l.members {
		form := memberForm{ID: fmt.Sprintf("%x", m.ID), Name: m.Name, Endpoint: strings.Join(m.ClientURLs, ","),
			Role: "down"}
		if s, ok := statuses[m.ID]; ok {
			form.Endpoint, form.Role = s.endpoint, role(m.ID, s.resp)
			form.Lag, form.DBSize, form.Version, form.Errors = committed-min(committed,
				s.resp.RaftAppliedIndex), s.resp.DbSize,
				s.resp.Version, s.resp.Errors
		}
		forms = append(forms, form)
	}
	now.Members = firstBy(forms, len(forms),
		func(a, b memberForm) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return failed
}

func role(id uint64, s *pb.StatusResponse) string {
	switch {
	case s.IsLearner:
		return "learner"
	case s.Leader == id:
		return "leader"
	}
	return "follower"
}

// follow makes the client use all members, too: the one it was told of may go away.
func (l *lookout) follow() {
	if all := l.endpoints(); !slices.Equal(all, l.etcd.Endpoints()) {
		l.etcd.SetEndpoints(all...)
	}
}

// endpoints are those that were given, and those that the members advertise, which may be no good from here.
func (l *lookout) endpoints() []string {
	all := slices.Clone(l.g.Spec.Endpoints)
	for _, m := range l.members {
		for _, url := range m.ClientURLs {
			if !slices.ContainsFunc(all, func(ep string) bool { return bareEndpoint(ep) == bareEndpoint(url) }) {
				all = append(all, url)
			}
		}
	}
	return all
}

func bareEndpoint(endpoint string) string {
	_, address, ok := strings.Cut(endpoint, "://")
	if !ok {
		return endpoint
	}
	return address
}

type memberStatus struct {
	endpoint string
	resp     *pb.StatusResponse
}

// statuses asks all endpoints at once; the answers are by the member that gave them.
func (l *lookout) statuses(ctx context.Context) map[uint64]memberStatus {
	var mu sync.Mutex
	var asked sync.WaitGroup
	by := map[uint64]memberStatus{}
	for _, endpoint := range l.endpoints() {
		asked.Go(func() {
			resp, err := l.status(ctx, endpoint)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if known, ok := by[resp.Header.MemberId]; !ok || endpoint < known.endpoint {
				by[resp.Header.MemberId] = memberStatus{endpoint, resp}
			}
		})
	}
	asked.Wait()
	return by
}

// status asks one endpoint. etcd's own Status tries a member that refuses connections until ctx ends.
func (l *lookout) status(ctx context.Context, endpoint string) (*pb.StatusResponse, error) {
	conn, err := l.etcd.Dial(endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return nil, cli.ErrUnreachable
		}
	}
	return pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
}

func (l *lookout) askSessions(ctx context.Context, now *picture) error {
	all := sessionsForm{Soonest: []sessionForm{}}
	for req, pages := (&coordv1.ListSessionsRequest{}), 1; ; pages++ {
		page, err := l.introspection.ListSessions(ctx, req)
		if err != nil {
			return err
		}
		for _, s := range page.Sessions {
			all.Count++
			all.Holds += s.Holds
			all.Waits += s.Waits
			all.Soonest = append(all.Soonest, sessionForm{
				cli.HexID(s.Id), s.Identity.GetHost(), s.Identity.GetProcess(), s.Identity.GetLabels(), s.RemainingMs,
				s.TtlMs,
				s.Holds, s.Waits,
			})
		}
		all.Soonest = firstBy(all.Soonest, l.rows, func(a, b sessionForm) int {
			return cmp.Or(cmp.Compare(a.LeftMS, b.LeftMS), cmp.Compare(a.ID, b.ID))
		})
		more := page.More && len(page.Sessions) > 0
		if !more || pages == maxTopPages {
			all.More = more
			now.Sessions = all
			return nil
		}
		req.After = page.Sessions[len(page.Sessions)-1].Id
	}
}

func (l *lookout) askQueues(ctx context.Context, now *picture) error {
	locks, elections := queuesForm{Longest: []queueForm{}}, queuesForm{Longest: []queueForm{}}
	for req, pages := (&coordv1.ListQueuesRequest{}), 1; ; pages++ {
		page, err := l.introspection.ListQueues(ctx, req)
		if err != nil {
			return err
		}
		at := time.Now()
		for _, q := range page.Queues {
			of := &locks
			if inspect.IsElection(q.Kind) {
				of = &elections
			}
			of.add(q, at)
		}
		for _, of := range []*queuesForm{&locks, &elections} {
			of.Longest = firstBy(of.Longest, l.rows, func(a, b queueForm) int {
				return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(a.Name, b.Name))
			})
		}
		more := page.More && len(page.Queues) > 0
		if !more || pages == maxTopPages {
			locks.More, elections.More = more, more
			now.Locks, now.Elections = locks, elections
			return nil
		}
		req.After = page.Queues[len(page.Queues)-1].Name
	}
}

func (f *queuesForm) add(q *coordv1.QueueInfo, at time.Time) {
	form := queueForm{Name: q.Name, Kind: inspect.KindName(q.Kind), Host: q.Identity.GetHost(),
		Token:   q.Holder.GetToken(),
		Waiting: q.Waiting}
	if q.Holder != nil {
		form.Owner = inspect.OwnerOf(q.Kind, q.Holder)
	}
	if since := q.Holder.GetSinceUnixMs(); since != 0 {
		form.AgeMS = max(1, at.UnixMilli()-since)
	}
	f.Count++
	f.Waiting += q.Waiting
	f.Longest = append(f.Longest, form)
}

func (l *lookout) askServices(ctx context.Context, now *picture) error {
	all, err := l.services.List(ctx, "")
	if err != nil {
		return err
	}
	services := service.Summarize(all)
	slices.SortStableFunc(services,
		func(a, b service.Summary) int { return cmp.Compare(b.States["critical"], a.States["critical"]) })
	now.Services = services
	return nil
}

// firstBy are the first n of all in an order.
func firstBy[T any](all []T, n int, order func(a, b T) int) []T {
	slices.SortFunc(all, order)
	return all[:min(len(all), n)]
}
