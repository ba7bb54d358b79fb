package coord

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// What cannot work is refused before a directory is made or a port is taken.
func TestBadFlagsLeaveNothing(t *testing.T) {
	for what, edit := range map[string]func(*Config){
		"heartbeat below the minimum": func(c *Config) {
			c.HeartbeatInterval, c.ElectionTimeout = 4*time.Millisecond, 100*time.Millisecond
		},
		"heartbeat of 1 ms": func(c *Config) {
			c.HeartbeatInterval, c.ElectionTimeout = time.Millisecond, 5*time.Millisecond
		},
		"negative heartbeat":          func(c *Config) { c.HeartbeatInterval = -time.Second },
		"election below heartbeats":   func(c *Config) { c.ElectionTimeout = 100 * time.Millisecond },
		"election too long":           func(c *Config) { c.ElectionTimeout = time.Hour },
		"request too large":           func(c *Config) { c.MaxRequestBytes = 1 << 30 },
		"unknown state":               func(c *Config) { c.ClusterState = "old" },
		"unknown level":               func(c *Config) { c.LogLevel = "loud" },
		"peer URL":                    func(c *Config) { c.ListenPeerURLs = []string{"http://nowhere:1"} },
		"cluster without this member": func(c *Config) { c.InitialCluster = "b=http://127.0.0.1:1" },
		"DNS address":                 func(c *Config) { c.ListenDNS = "nowhere" },
	} {
		c := three()
		c.DataDir, c.WALDir = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "wal")
		edit(&c)
		// a start that goes on waits for the other two members
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		s, err := Start(ctx, c, zap.NewNop())
		if err == nil {
			t.Errorf("%s: started", what)
			_ = s.Stop(ctx)
		}
		cancel()
		for _, dir := range []string{c.DataDir, c.WALDir} {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s: %s was made", what, dir)
			}
		}
	}
}
