package daemon

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord"
)

// TestNothingBelowTheLastLine: behind the line that says why the process ends, and is synced, nothing is written any
// more, by whatever logger.
func TestNothingBelowTheLastLine(t *testing.T) {
	var out bytes.Buffer
	log, err := newLogger(&out, coord.Config{LogLevel: "info", LogFormat: coord.LogFormatJSON})
	if err != nil {
		t.Fatal(err)
	}
	other := log.Named("raft").With(zap.Int("member", 2))
	other.Info("before")
	log.Error("cannot go on")
	if err := log.Sync(); err != nil {
		t.Fatal(err)
	}
	other.Info("peer connection lost")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "before") || !strings.Contains(lines[1], "cannot go on") {
		t.Errorf("the log is\n%s", out.String())
	}
}
