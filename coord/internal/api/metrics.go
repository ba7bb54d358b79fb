package api

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxVersions bounds the values of the client_api_version label, which clients choose.
const maxVersions = 64

// metrics are those of etcd's that belong to the API, under etcd's names.
type metrics struct {
	rpc                           *rpcMetrics
	unaryRequests, streamRequests *versionCounter
	healthOK, healthFailed        prometheus.Counter
	checks                        *prometheus.GaugeVec
	checksTotal                   *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "etcd_server_client_requests_total",
		Help: "The total number of client requests per client version.",
	}, []string{"type", "client_api_version"})
	m := &metrics{
		rpc:            newRPCMetrics(),
		unaryRequests:  &versionCounter{vec: requests, kind: "unary"},
		streamRequests: &versionCounter{vec: requests, kind: "stream"},
		healthOK: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_success", Help: "The total number of successful health checks",
		}),
		healthFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_failures", Help: "The total number of failed health checks",
		}),
		checks: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "etcd_server_healthcheck", Help: "The result of each kind of healthcheck.",
		}, []string{"type", "name"}),
		checksTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_healthchecks_total", Help: "The total number of each kind of healthcheck.",
		}, []string{"type", "name", "status"}),
	}
	var errs []error
	own := []prometheus.Collector{requests, m.healthOK, m.healthFailed, m.checks, m.checksTotal}
	for _, c := range append(own, m.rpc.collectors()...) {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// versionCounter counts by the version that clients name. It remembers the counters, as looking one up by its labels
// for each request is slower.
type versionCounter struct {
	vec  *prometheus.CounterVec
	kind string
	mu   struct {
		sync.RWMutex
		counters map[string]prometheus.Counter
	}
}

func (c *versionCounter) inc(version string) {
	c.mu.RLock()
	counter, ok := c.mu.counters[version]
	c.mu.RUnlock()
	if !ok {
		counter = c.add(version)
	}
	counter.Inc()
}

func (c *versionCounter) add(version string) prometheus.Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.counters) >= maxVersions {
		return c.vec.WithLabelValues(c.kind, "other")
	}
	if c.mu.counters == nil {
		c.mu.counters = map[string]prometheus.Counter{}
	}
	counter := c.vec.WithLabelValues(c.kind, version)
	c.mu.counters[version] = counter
	return counter
}
