// Package clientotel makes spans and metrics of OpenTelemetry of what package client does. It is apart from it, so that
// only who wants them gets their dependencies.
//
//	hooks, err := clientotel.Hooks(client.Hooks{})
//	c, err := client.New(client.Config{Endpoints: endpoints, Hooks: hooks})
//
// Spans: "coord acquire" and "coord campaign" until the lock or the leadership is held, and "coord hold" around the
// function of Do and Run, children of the caller's span, with the attribute coord.name.
//
// Metrics: coord.client.acquire.duration (seconds, histogram), coord.client.hold.duration (seconds, histogram),
// coord.client.waits, coord.client.losses, coord.client.disconnects (counters). Those of locks have the attribute
// coord.operation, and coord.name only with WithNames, because names may be many.
package clientotel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/coord-dev/coord/client"
)

const scope = "github.com/coord-dev/coord/client"

// Option configures Hooks.
type Option func(*options)

type options struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
	names   bool
}

// WithTracerProvider sets where spans go. Default: the global one.
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *options) { o.tracers = p } }

// WithMeterProvider sets where metrics go. Default: the global one.
func WithMeterProvider(p metric.MeterProvider) Option { return func(o *options) { o.meters = p } }

// WithNames puts the names of locks and elections on metrics.
func WithNames() Option { return func(o *options) { o.names = true } }

// Hooks returns hooks that make spans and metrics, and call those of base, too. The error is the meter's.
func Hooks(base client.Hooks, opts ...Option) (client.Hooks, error) {
	o := options{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for _, opt := range opts {
		opt(&o)
	}
	i, err := newInstruments(&o)
	if err != nil {
		return client.Hooks{}, err
	}
	hooks := base
	hooks.Trace = i.trace(base.Trace)
	hooks.OnWait = func(name string, position int64, holder string) {
		i.waits.Add(context.Background(), 1, i.attributes("", name))
		if base.OnWait != nil {
			base.OnWait(name, position, holder)
		}
	}
	hooks.OnLost = func(name string, err error) {
		i.losses.Add(context.Background(), 1, i.attributes("", name))
		if base.OnLost != nil {
			base.OnLost(name, err)
		}
	}
	hooks.OnDisconnect = func(endpoint string, err error) {
		i.disconnects.Add(context.Background(), 1, metric.WithAttributes(attribute.String("server.address", endpoint)))
		if base.OnDisconnect != nil {
			base.OnDisconnect(endpoint, err)
		}
	}
	return hooks, nil
}

type instruments struct {
	names                      bool
	tracer                     trace.Tracer
	acquire, hold              metric.Float64Histogram
	waits, losses, disconnects metric.Int64Counter
}

func newInstruments(o *options) (*instruments, error) {
	meter := o.meters.Meter(scope)
	i := &instruments{names: o.names, tracer: o.tracers.Tracer(scope)}
	var errs [5]error
	i.acquire, errs[0] = meter.Float64Histogram("coord.client.acquire.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from asking for a lock or a leadership to holding it, or to giving up"))
	i.hold, errs[1] = meter.Float64Histogram("coord.client.hold.duration", metric.WithUnit("s"),
		metric.WithDescription("Time for which the function of Do or Run held"))
	i.waits, errs[2] = meter.Int64Counter("coord.client.waits",
		metric.WithDescription("Requests that had to wait in a queue"))
	i.losses, errs[3] = meter.Int64Counter("coord.client.losses",
		metric.WithDescription("Locks and leaderships that were lost"))
	i.disconnects, errs[4] = meter.Int64Counter("coord.client.disconnects",
		metric.WithDescription("Streams that ended or could not be opened"))
	return i, errors.Join(errs[:]...)
}

func (i *instruments) attributes(operation, name string) metric.MeasurementOption {
	var set []attribute.KeyValue
	if operation != "" {
		set = append(set, attribute.String("coord.operation", operation))
	}
	if i.names {
		set = append(set, attribute.String("coord.name", name))
	}
	return metric.WithAttributes(set...)
}

// traceHook is the type of client.Hooks.Trace.
type traceHook = func(ctx context.Context, operation, name string) (context.Context, func(error))

// trace is the hook around operations; base may be nil.
func (i *instruments) trace(base traceHook) traceHook {
	return func(ctx context.Context, operation, name string) (context.Context, func(error)) {
		began, endBase := time.Now(), func(error) {}
		ctx, span := i.tracer.Start(ctx, "coord "+operation, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("coord.name", name)))
		if base != nil {
			ctx, endBase = base(ctx, operation, name)
		}
		return ctx, func(err error) {
			endBase(err)
			took := i.acquire
			if operation == "hold" {
				took = i.hold
			}
			took.Record(ctx, time.Since(began).Seconds(), i.attributes(operation, name))
			if err != nil {
				span.RecordError(err)
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
		}
	}
}
