package daemon

import (
	"fmt"
	"io"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coord-dev/coord/coord"
)

// lastWord is where the log goes, until it is synced. Whoever has to end the process, because its store, its log or a
// command makes it impossible to go on, logs one line that says so and syncs the log behind it: what others have to say
// while it ends must not stand below.
type lastWord struct {
	mu   sync.Mutex
	w    io.Writer
	said bool
}

// Write implements zapcore.WriteSyncer.
func (l *lastWord) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said {
		return len(p), nil
	}
	return l.w.Write(p)
}

// Sync implements zapcore.WriteSyncer. There is nothing that a line could wait in.
func (l *lastWord) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = true
	return nil
}

// newLogger writes to w what the configuration asks for, with the field names of etcd's log.
func newLogger(w io.Writer, c coord.Config) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	fields := zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", NameKey: "logger", CallerKey: "caller", MessageKey: "msg",
		StacktraceKey: "stacktrace",
		EncodeLevel:   zapcore.LowercaseLevelEncoder, EncodeTime: zapcore.RFC3339NanoTimeEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, EncodeCaller: zapcore.ShortCallerEncoder,
	}
	encoder := zapcore.NewJSONEncoder(fields)
	if c.LogFormat == coord.LogFormatConsole {
		encoder = zapcore.NewConsoleEncoder(fields)
	}
	return zap.New(zapcore.NewCore(encoder, &lastWord{w: w}, level), zap.AddCaller()), nil
}
