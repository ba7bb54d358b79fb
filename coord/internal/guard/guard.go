// Package guard keeps a panic in a goroutine that serves the network from ending the process: the request, the
// connection or the round of work that panicked ends, is counted and logged with its stack, and the member goes on.
//
// The apply is not guarded: a panic there ends the process on purpose, before anything of it is published. Neither are
// the parts all requests share (the proposer, the lease clock, Dragonboat), where a panic says that nothing that
// follows can be trusted; a test at the top of the repository lists them with their reasons, and finds goroutines that
// are neither guarded nor listed.
//
// A guarded function must not leave a mutex locked behind a panic: it unlocks by defer, or what it holds belongs to the
// connection that ends with it.
package guard

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Panics counts what was recovered. A panic is the process', whichever member of it runs in the goroutine.
var Panics = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "coord_recovered_panics_total", Help: "Panics that ended one request, connection or round of work and not " +
		"the process; each is logged with its stack.",
}, []string{"where"})

// Recover is deferred as the first thing of a goroutine. After a panic it calls then, which end what must not live on.
// A panic in one of them ends the process.
func Recover(log *zap.Logger, where string, then ...func(cause any)) {
	cause := recover()
	if cause == nil {
		return
	}
	Note(log, where, cause)
	for _, f := range then {
		f(cause)
	}
}

// Note counts and logs a panic that its caller has recovered.
func Note(log *zap.Logger, where string, cause any) {
	Panics.WithLabelValues(where).Inc()
	log.Error("recovered from a panic", zap.String("where", where), zap.String("cause", fmt.Sprint(cause)),
		zap.ByteString("stack", debug.Stack()))
}

// pause is the wait before a loop that panicked runs again: what it fell over may still be there.
const pause = 200 * time.Millisecond

// Loop runs f, and again if it panics, until it returns or ctx ends. Each run must begin with a state of its own.
func Loop(ctx context.Context, log *zap.Logger, where string, f func()) {
	for panicked(log, where, f) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func panicked(log *zap.Logger, where string, f func()) (again bool) {
	defer Recover(log, where, func(any) { again = true })
	f()
	return false
}

// HTTP guards a handler. The answer to a request that panicked is 500, or a connection that ends if something was sent.
func HTTP(log *zap.Logger, where string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch cause := recover(); cause {
			case nil:
			case http.ErrAbortHandler:
				panic(cause) // the server's own way to end a connection; nothing went wrong
			default:
				Note(log, where, cause)
				w.Header().Set("Connection", "close")
				http.Error(w, "internal error: the member has logged it", http.StatusInternalServerError)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// Status is the answer to a request that panicked.
func Status(cause any) error { return status.Error(codes.Internal, fmt.Sprintf("panic: %v", cause)) }
