package pebblefs

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// Logger is a pebble.Logger that drops informational lines, which tell of every flush.
type Logger struct {
	// Store says which database it is.
	Store string
	Log   *zap.Logger
	// End is called with a line that was logged, when the store could not do what it must, and going on could lose what
	// was acknowledged. It should end the process: if it returns, or is nil, the goroutine panics with the same line.
	End func(line string)
}

// Infof implements pebble.Logger.
func (l Logger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l Logger) Errorf(format string, args ...any) { l.Log.Warn(fmt.Sprintf(format, args...)) }

// Fatalf is how Pebble ends when a write to its log or manifest failed. It must not return.
func (l Logger) Fatalf(format string, args ...any) {
	why, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n") // Pebble puts a stack behind it
	line := l.Store + ": cannot go on: " + why
	l.Log.Error(line)
	_ = l.Log.Sync()
	if l.End != nil {
		l.End(line)
	}
	panic(line)
}

// BackgroundError is for pebble.EventListener: it is told why a flush or a compaction failed. With a full disk it is
// only logged, and so is damage, which Pebble keeps away from and whoever reads it hears of. Anything else does not
// pass by itself, be it a directory that was removed or a disk that fails, and ends in log.Fatalf.
func BackgroundError(log pebble.Logger) func(error) {
	return func(err error) {
		if vfs.IsNoSpaceError(err) || pebble.IsCorruptionError(err) {
			log.Errorf("background error: %v", err)
			return
		}
		log.Fatalf("%v", err)
	}
}
