package difftest

import (
	"testing"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
)

// startSubject starts the server under test and returns its address.
func startSubject(t testing.TB) (addr string, stop func()) {
	t.Helper()
	cluster := coordtest.Start(t, coordtest.Options{Configure: func(_ int, c *coord.Config) {
		c.WatchProgressNotifyInterval = notifyInterval
	}})
	return cluster.Endpoints()[0], cluster.Stop
}
