package clientotel

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/coord-dev/coord/client"
)

// TestHooks: spans nest in the caller's, metrics count, and the hooks that were there are called.
func TestHooks(t *testing.T) {
	spans, reader := tracetest.NewInMemoryExporter(), metric.NewManualReader()
	tracers := trace.NewTracerProvider(trace.WithSyncer(spans))
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	var called []string
	base := client.Hooks{
		OnWait:       func(string, int64, string) { called = append(called, "wait") },
		OnLost:       func(string, error) { called = append(called, "lost") },
		OnDisconnect: func(string, error) { called = append(called, "disconnect") },
		Trace: func(ctx context.Context, operation, _ string) (context.Context, func(error)) {
			return ctx, func(error) { called = append(called, operation) }
		},
	}
	hooks, err := Hooks(base, WithTracerProvider(tracers), WithMeterProvider(meters), WithNames())
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := tracers.Tracer("test").Start(t.Context(), "parent")
	_, end := hooks.Trace(ctx, "acquire", "job")
	hooks.OnWait("job", 1, "them")
	end(nil)
	_, end = hooks.Trace(ctx, "hold", "job")
	hooks.OnLost("job", client.ErrLost)
	hooks.OnDisconnect("a:1", errors.New("gone"))
	end(client.ErrLost)
	parent.End()
	if want := []string{"wait", "acquire", "lost", "disconnect", "hold"}; !slices.Equal(called, want) {
		t.Errorf("called %v, want %v", called, want)
	}
	got := spans.GetSpans()
	if len(got) != 3 || got[0].Name != "coord acquire" || got[1].Name != "coord hold" ||
		got[1].Status.Code != codes.Error {
		t.Fatalf("spans %+v", got)
	}
	for _, span := range got[:2] {
		if span.Parent.SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("%s is no child of the caller's span", span.Name)
		}
	}
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range rm.ScopeMetrics[0].Metrics {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	want := []string{"coord.client.acquire.duration", "coord.client.disconnects", "coord.client.hold.duration",
		"coord.client.losses", "coord.client.waits"}
	if !slices.Equal(names, want) {
		t.Errorf("metrics %v, want %v", names, want)
	}
}
