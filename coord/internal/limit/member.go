package limit

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultBytes is what a member holds for its clients unless it is told otherwise.
const DefaultBytes = 256 << 20

// Member are the limits of one member. A nil Member has none.
type Member struct {
	Watchers  *Pool // what watchers cost, with their keys
	Events    *Pool // responses of watches that wait for clients who do not read
	Channels  *Pool // channels of native streams, with the messages that their handlers have not taken
	Requests  *Pool // requests of native streams that have no answer yet
	Responses *Pool // what waits for native clients who do not read
	Calls     *Pool // calls under way, each with its goroutine and its request
}

// NewMember divides the bytes among the kinds, and registers the metrics.
func NewMember(bytes int64, registry prometheus.Registerer) (*Member, error) {
	if bytes <= 0 {
		bytes = DefaultBytes
	}
	twentieth := bytes / 20
	m := &Member{
		Watchers:  NewPool("watchers", 4*twentieth, "cancel some, or watch a range instead of many keys"),
		Events:    NewPool("events that wait for slow clients", 2*twentieth, "read the watch stream"),
		Channels:  NewPool("channels and messages in them", 4*twentieth, "close some, or share one watch channel"),
		Requests:  NewPool("requests under way", 3*twentieth, "wait for answers before sending more"),
		Responses: NewPool("responses that wait for slow clients", 3*twentieth, "read the stream"),
		Calls: NewPool("calls under way", 4*twentieth, "wait for answers before calling again, or use "+
			"another member"),
	}
	var errs []error
	for kind, p := range map[string]*Pool{
		"watchers": m.Watchers, "events": m.Events, "channels": m.Channels,
		"requests": m.Requests, "responses": m.Responses, "calls": m.Calls,
	} {
		errs = append(errs, p.register(kind, registry))
	}
	return m, errors.Join(errs...)
}

func (p *Pool) register(kind string, registry prometheus.Registerer) error {
	labels := prometheus.Labels{"kind": kind}
	gauge := func(name, help string, value func() float64) error {
		return registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help,
			ConstLabels: labels}, value))
	}
	return errors.Join(
		gauge("coord_client_memory_bytes", "What this member holds for all of its clients, by kind, as far as it "+
			"counts.",
			func() float64 { return float64(p.Used()) }),
		gauge("coord_client_memory_limit_bytes", "What it may hold at most.", func() float64 {
			return float64(p.bound)
		}),
		registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "coord_client_memory_refused_total", Help: "What was refused, held back or ended at such a limit.",
			ConstLabels: labels,
		}, func() float64 { return float64(p.refused.Load()) })),
	)
}
