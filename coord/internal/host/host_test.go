package host

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/logger"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestTiming(t *testing.T) {
	for _, tc := range []struct{ heartbeat, election, tick time.Duration }{
		{50 * time.Millisecond, 300 * time.Millisecond, 10 * time.Millisecond},
		{100 * time.Millisecond, time.Second, 20 * time.Millisecond},
		{5 * time.Millisecond, 50 * time.Millisecond, 5 * time.Millisecond},
		{time.Second, 5 * time.Second, 20 * time.Millisecond},
	} {
		cfg := Config{Heartbeat: tc.heartbeat, ElectionTimeout: tc.election}
		got := cfg.timing()
		if got.Tick != tc.tick || time.Duration(got.Heartbeat)*got.Tick != tc.heartbeat ||
			time.Duration(got.Election)*got.Tick != tc.election {
			t.Errorf("heartbeat %v, election timeout %v: %+v", tc.heartbeat, tc.election, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config { return Config{Member: 2, Dir: "d", PeerListen: []string{"127.0.0.1:0"}} }
	for text, edit := range map[string]func(*Config){
		"must not be zero": func(c *Config) { c.Member = 0 },
		"no directory":     func(c *Config) { c.Dir = "" },
		"no address":       func(c *Config) { c.PeerListen = nil },
		"more than twice": func(c *Config) {
			c.Heartbeat, c.ElectionTimeout = 100*time.Millisecond, 200*time.Millisecond
		},
		"shorter than": func(c *Config) { c.Heartbeat = time.Millisecond },
	} {
		cfg := good()
		edit(&cfg)
		cfg.ensureDefaults()
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	cfg := good()
	cfg.ensureDefaults()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSettingsFilesAreRefused(t *testing.T) {
	for _, file := range settingsFiles {
		t.Run(file, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Start(Config{Member: 1, Dir: t.TempDir(), PeerListen: []string{"127.0.0.1:0"}})
			if err == nil || !strings.Contains(err.Error(), file+" would change") {
				t.Error(err)
			}
		})
	}
}

// An error of the state machine ends in a panic nobody can recover, so that all
// there is left to do is to say so and to end the process.
func TestFatalIsReported(t *testing.T) {
	var lines []string
	stop := useLogger(zap.NewNop(), func(msg string) { lines = append(lines, msg) })
	defer stop()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Panicf returned")
			}
		}()
		logger.GetLogger("test").Panicf("disk %s\nstack\ntrace", "broken")
	}()
	if len(lines) != 1 || lines[0] != "disk broken" {
		t.Errorf("reported %q", lines)
	}
}

// What raft drops without a leader, hundreds of times a second, is not for the log of a member that has lost the
// others.
func TestDroppedIsNotLogged(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	defer useLogger(zap.New(core), func(string) {})()
	raft := logger.GetLogger("test")
	raft.Warningf("%s dropped ReadIndex, no leader", "t1")
	raft.Warningf("%s dropped proposal, no leader", "t1")
	raft.Warningf("%s became candidate", "t2")
	if got := logged.All(); len(got) != 1 || got[0].Message != "t2 became candidate" {
		t.Errorf("logged %v", got)
	}
}
