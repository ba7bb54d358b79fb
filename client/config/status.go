package config

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Status is what a client has made of a bundle.
type Status struct {
	Client string
	// Seen is the number of the last version that the client saw, Applied of the one it runs with, 0 for none, both
	// with the store's revision.
	Seen, SeenRevision       int64
	Applied, AppliedRevision int64
	// Error is why they differ, "" if they do not.
	Error string
	Time  time.Time // by the client's clock
}

// Statuses returns what the clients of a bundle that use Report have made of it, in the order of their names.
func Statuses(ctx context.Context, store Store, bundle string) ([]Status, error) {
	resp, err := store.Get(ctx, layout.StatusPrefix(bundle), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var statuses []Status
	for _, kv := range resp.Kvs {
		s := &coordv1.ConfigStatus{}
		if err := proto.Unmarshal(kv.Value, s); err != nil {
			return nil, fmt.Errorf("config: the value of %q is not a status: %w", kv.Key, err)
		}
		statuses = append(statuses, Status{
			Client: s.Client, Seen: s.Seen, SeenRevision: s.SeenRevision, Applied: s.Applied,
			AppliedRevision: s.AppliedRevision,
			Error:           s.Error, Time: time.UnixMilli(s.TimeUnixMs),
		})
	}
	return statuses, nil
}

// reporter tells the cluster the last report, until it has it.
type reporter struct {
	cluster coordv1.ConfigClient
	bundle  string
	lease   func() clientv3.LeaseID
	refresh time.Duration
	latest  chan *coordv1.ConfigStatus // capacity 1: only the last one counts
}

func newReporter(bundle string, o *options) *reporter {
	return &reporter{
		cluster: coordv1.NewConfigClient(o.conn), bundle: bundle, lease: o.lease, refresh: o.refresh,
		latest: make(chan *coordv1.ConfigStatus, 1),
	}
}

// set never blocks. One goroutine at a time may call it.
func (r *reporter) set(s *coordv1.ConfigStatus) {
	select {
	case <-r.latest:
	default:
	}
	r.latest <- s
}

// run tells each report, and the last one again when the lease that it was on has been replaced.
func (r *reporter) run(ctx context.Context) {
	var last *coordv1.ConfigStatus
	var on clientv3.LeaseID
	look := time.NewTicker(r.refresh)
	defer look.Stop()
	for {
		select {
		case last = <-r.latest:
		case <-look.C:
			if last == nil || r.lease() == on {
				continue
			}
		case <-ctx.Done():
			return
		}
		for p := (pause{}); ; {
			if on = r.lease(); r.write(ctx, last, on) == nil {
				break
			}
			if !p.sleep(ctx) {
				return
			}
			select {
			case last = <-r.latest:
			default:
			}
		}
	}
}

func (r *reporter) write(ctx context.Context, s *coordv1.ConfigStatus, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := r.cluster.Report(ctx, &coordv1.ConfigReportRequest{Bundle: r.bundle, Status: s, Lease: int64(lease)})
	return err
}
