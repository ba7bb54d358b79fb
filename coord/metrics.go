package coord

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// registerMetrics adds what the member itself knows to its registry. The names are etcd's where etcd has the metric.
func (s *Server) registerMetrics() error {
	build := Build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coord_build_info", Help: "Which build of coord runs; always 1.",
		ConstLabels: prometheus.Labels{
			"version": build.Version, "git_sha": build.GitSHA, "go_version": build.GoVersion,
		},
	})
	info.Set(1)
	errs := []error{
		s.registry.Register(info),
		s.registry.Register(guard.Panics),
		s.registry.Register(s.ports.metrics),
		s.registry.Register(collectors.NewGoCollector()),
		s.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	}
	for _, g := range s.system.etcdGauges(s) {
		errs = append(errs, s.registry.Register(g.collector()))
	}
	for _, g := range s.system.gauges() {
		errs = append(errs, s.system.Metrics(s.registry).Register(g.collector()))
	}
	for reason := range s.host.Transport().Rejected() {
		errs = append(errs, s.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "coord_peer_rejected_messages_total", Help: "Messages of peers that no member sends, by reason; " +
				"each closed its connection.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(s.host.Transport().Rejected()[reason]) })))
	}
	errs = append(errs, s.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coord_peer_dropped_proposals_total", Help: "Proposals of peers that were dropped because too many " +
			"bytes waited for raft; they are sent again.",
	}, func() float64 { return float64(s.host.Transport().Overdue()) })))
	errs = append(errs, s.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coord_peer_stray_messages_total", Help: "Messages of peers for shards of which this member has no " +
			"replica; they are dropped.",
	}, func() float64 { return float64(s.host.Transport().Strays()) })))
	return errors.Join(errs...)
}

type gauge struct {
	name, help string
	value      func() float64
}

func (g gauge) collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)
}

// etcdGauges are metrics of etcd's, which know nothing of shards: they are those of the keyspace that etcd's clients
// are in who name none.
func (k *servedKeyspace) etcdGauges(s *Server) []gauge {
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	size := func(total bool) float64 {
		all, inUse := k.Machine.DiskUsage()
		if total {
			return float64(all)
		}
		return float64(inUse)
	}
	revision := func(compacted bool) float64 {
		var out float64
		k.look(s.ctx, func(v *machine.View) {
			if out = float64(v.Revision()); compacted {
				out = float64(v.Compacted())
			}
		})
		return out
	}
	return []gauge{
		{"etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", func() float64 {
			return truth(k.hasLeader())
		}},
		{"etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", func() float64 {
			return truth(k.group.IsLeader())
		}},
		{"etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", func() float64 {
			return truth(k.group.Learner())
		}},
		{"etcd_server_proposals_applied_total", "The index of the last log entry applied.", func() float64 {
			return float64(k.group.Applied())
		}},
		{"etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", func() float64 {
			return float64(s.cfg.QuotaBackendBytes)
		}},
		{"etcd_mvcc_db_total_size_in_bytes", "Total size of the store's files in bytes.",
			func() float64 { return size(true) }},
		{"etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the live part of the store in bytes.",
			func() float64 { return size(false) }},
		{"etcd_debugging_mvcc_current_revision", "The current revision of store.", func() float64 {
			return revision(false)
		}},
		{"etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
			func() float64 { return revision(true) }},
		{"etcd_debugging_mvcc_watcher_total", "Total number of watchers.", func() float64 {
			return float64(k.Hub.Stats().Watchers)
		}},
		{"etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", func() float64 {
			return float64(k.Hub.Stats().Slow)
		}},
		{"etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", func() float64 {
			return float64(k.Hub.Stats().Streams)
		}},
	}
}

// gauges are what coord knows of a keyspace beside: each says of which shard it is.
func (k *servedKeyspace) gauges() []gauge {
	broken := func() float64 {
		var out float64
		k.look(principal.Member(context.Background()), func(v *machine.View) { out = float64(len(v.BrokenQueues())) })
		return out
	}
	return []gauge{
		{"coord_watch_pending_events", "Events accepted for watch streams and not sent yet.", func() float64 {
			return float64(k.Hub.Stats().Pending)
		}},
		{"coord_cluster_version", "The version of the cluster: what its log and its rows may hold.", func() float64 {
			return float64(k.Machine.Version())
		}},
		{"coord_broken_queues", "Queues for which what must follow from a deletion could not be done: nobody is " +
			"granted anything there.", func() float64 { return broken() }},
		{"coord_log_unparsed_total", "Entries, commands and requests of the log that do not parse, since the start: " +
			"all members refuse them.", func() float64 { return float64(k.Machine.Unparsed()) }},
		{"coord_outcomes_bytes", "Outcomes that no session has acknowledged, in bytes of memory.", func() float64 {
			n, _ := k.Machine.Held()
			return float64(n)
		}},
		{"coord_outcomes_limit_bytes", "What they may be at most.", func() float64 {
			return float64(statemachine.DefaultRoom.OutcomeBytes)
		}},
		{"coord_sessions_bytes", "Sessions, in bytes of memory.", func() float64 {
			_, n := k.Machine.Held()
			return float64(n)
		}},
		{"coord_sessions_limit_bytes", "What they may be at most.", func() float64 {
			return float64(statemachine.DefaultRoom.SessionBytes)
		}},
		{"coord_outcomes_refused", "Requests refused since the start because of the outcomes that all sessions have.",
			func() float64 { n, _ := k.Machine.Refused(); return float64(n) }},
		{"coord_sessions_refused", "Sessions refused since the start because of those that there are.", func() float64 {
			_, n := k.Machine.Refused()
			return float64(n)
		}},
		{"coord_leases", "Number of leases.", func() float64 { return float64(k.Clock.Facts().Count) }},
	}
}

// look calls fn with a view, unless the store is closed.
func (k *servedKeyspace) look(ctx context.Context, fn func(*machine.View)) {
	v, err := k.Read(ctx)
	if err != nil {
		return
	}
	defer v.Close()
	fn(v)
}

func (k *servedKeyspace) hasLeader() bool {
	leader, _ := k.group.Leader()
	return leader != 0
}
