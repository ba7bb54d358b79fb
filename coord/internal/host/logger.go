package host

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Dragonboat has one logger factory a process and keeps the loggers it makes, and
// a message does not say which NodeHost it came from. So these are global too:
// messages go to the Host started last, and what is fatal to all of them.
var (
	installLogger sync.Once
	sinks         sinkList
)

type sinkList struct {
	mu  sync.Mutex
	all []*sink
	// last is the sink for messages.
	last atomic.Pointer[sink]
}

// sink is where one Host wants messages to go.
type sink struct {
	log     *zap.Logger
	onFatal func(msg string)
}

// useLogger sends Dragonboat's messages to log until the returned function is
// called.
func useLogger(log *zap.Logger, onFatal func(string)) (stop func()) {
	installLogger.Do(func() {
		logger.SetLoggerFactory(func(pkg string) logger.ILogger { return &dragonboatLogger{pkg} })
	})
	s := &sink{log.WithOptions(zap.AddCallerSkip(2)), onFatal}
	sinks.change(func(all []*sink) []*sink { return append(all, s) })
	return func() {
		sinks.change(func(all []*sink) []*sink {
			return slices.DeleteFunc(all, func(other *sink) bool { return other == s })
		})
	}
}

func (l *sinkList) change(f func([]*sink) []*sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = f(slices.Clone(l.all))
	l.last.Store(nil)
	if n := len(l.all); n > 0 {
		l.last.Store(l.all[n-1])
	}
}

func (l *sinkList) snapshot() []*sink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// dragonboatLogger writes one Dragonboat package's messages to zap.
type dragonboatLogger struct{ pkg string }

var _ logger.ILogger = (*dragonboatLogger)(nil)

// SetLevel is ignored: zap decides.
func (l *dragonboatLogger) SetLevel(logger.LogLevel) {}

func (l *dragonboatLogger) Debugf(format string, args ...any) {
	l.log(zapcore.DebugLevel, format, args)
}

// Infof logs at debug level: what Dragonboat calls info is a trace of its work.
func (l *dragonboatLogger) Infof(format string, args ...any) {
	l.log(zapcore.DebugLevel, format, args)
}

// Warningf logs at info level: elections and late ticks are warnings there. What raft drops is asked for again every
// few milliseconds, for as long as there is no leader: at debug level.
func (l *dragonboatLogger) Warningf(format string, args ...any) {
	level := zapcore.InfoLevel
	if strings.Contains(format, " dropped ") {
		level = zapcore.DebugLevel
	}
	l.log(level, format, args)
}

func (l *dragonboatLogger) Errorf(format string, args ...any) {
	l.log(zapcore.WarnLevel, format, args)
}

// Panicf is how Dragonboat ends after an error it cannot handle, mostly of the
// disk. It prints one line and calls the hooks, which should not return; if they
// do, the goroutine panics as Dragonboat expects.
func (l *dragonboatLogger) Panicf(format string, args ...any) {
	msg := oneLine(fmt.Sprintf(format, args...))
	for _, s := range sinks.snapshot() {
		s.log.Error("raft cannot go on", zap.String("package", l.pkg), zap.String("error", msg))
		_ = s.log.Sync()
		s.onFatal(msg)
	}
	panic(msg)
}

func (l *dragonboatLogger) log(level zapcore.Level, format string, args []any) {
	s := sinks.last.Load()
	if s == nil {
		return
	}
	if ce := s.log.Check(level, ""); ce != nil {
		ce.Message = strings.TrimSpace(fmt.Sprintf(format, args...))
		ce.Write(zap.String("package", l.pkg))
	}
}

// oneLine drops the stack trace that Dragonboat's errors print with %+v.
func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
