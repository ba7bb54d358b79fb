package node

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Dragonboat has one logger factory a process and keeps the loggers it makes, so
// these are global too: the sink follows the Node started last.
var (
	installLogger sync.Once
	logSink       atomic.Pointer[sink]
)

type sink struct {
	log     *zap.Logger
	onFatal func(msg string)
}

// useLogger sends Dragonboat's messages to log. The first onFatal wins, because
// a message does not say which NodeHost it came from.
func useLogger(log *zap.Logger, onFatal func(string)) {
	first := logSink.Load()
	if first != nil {
		onFatal = first.onFatal
	}
	logSink.Store(&sink{log.WithOptions(zap.AddCallerSkip(2)), onFatal})
	installLogger.Do(func() {
		logger.SetLoggerFactory(func(pkg string) logger.ILogger { return &dragonboatLogger{pkg} })
	})
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

// Warningf logs at info level: elections and late ticks are warnings there.
func (l *dragonboatLogger) Warningf(format string, args ...any) {
	l.log(zapcore.InfoLevel, format, args)
}

func (l *dragonboatLogger) Errorf(format string, args ...any) {
	l.log(zapcore.WarnLevel, format, args)
}

// Panicf is how Dragonboat ends after an error it cannot handle, mostly of the
// disk. It prints one line and calls the hook, which should not return; if it
// does, the goroutine panics as Dragonboat expects.
func (l *dragonboatLogger) Panicf(format string, args ...any) {
	msg := oneLine(fmt.Sprintf(format, args...))
	s := logSink.Load()
	s.log.Error("raft cannot go on", zap.String("package", l.pkg), zap.String("error", msg))
	_ = s.log.Sync()
	s.onFatal(msg)
	panic(msg)
}

func (l *dragonboatLogger) log(level zapcore.Level, format string, args []any) {
	s := logSink.Load()
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
