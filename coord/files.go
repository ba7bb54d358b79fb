package coord

import (
	"fmt"
	"net"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/coord-dev/coord/coord/internal/netlimit"
)

// files says who may have how many file descriptors, so that connections never take those without which the log and the
// store cannot open their next file. Sums stay below the process' limit.
type files struct {
	limit int
	// of all stores together; twice that is kept for them, since tables that are being read stay open beyond it
	store   int
	log     int
	probes  int // connections to what is probed
	peers   int // connections on the peer ports that have not proved to be a member's
	dns     int
	clients int
}

const (
	// minFiles is the smallest limit of open files to start with.
	minFiles = 512
	// fixedFiles are kept for all that has no bound of its own here: listeners, files that are being written beside
	// those the stores keep open, snapshots on their way, lookups of names, and the connections of members to each
	// other.
	fixedFiles = 160
	// maxClients bounds the connections of clients where the limit of open files does not: each has buffers.
	maxClients = 100_000
)

// shareFiles divides a limit.
func shareFiles(limit int) (files, error) {
	if limit < minFiles {
		return files{}, fmt.Errorf("the limit of open files is %d, at least %d are needed: raise it (ulimit -n, "+
			"LimitNOFILE= of systemd)", limit, minFiles)
	}
	f := files{
		limit: limit,
		store: min(2000, limit/8), log: min(200, limit/8),
		probes: min(320, limit/16), peers: min(1024, limit/16), dns: min(256, limit/32),
	}
	f.clients = min(maxClients, limit-fixedFiles-2*f.store-f.log-f.probes-f.peers-f.dns)
	return f, nil
}

// raiseFileLimit raises the process' limit of open files as far as it may, and divides it.
func raiseFileLimit() (files, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return files{}, fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur < limit.Max {
		raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil { // otherwise the one that there is has to do
			limit = raised
		}
	}
	return shareFiles(int(min(limit.Cur, 1<<30)))
}

// ports bound the member's connections. Each kind has a share of its own, so that clients never keep peers out.
type ports struct {
	metrics           *netlimit.Metrics
	client, peer, dns *netlimit.Port
}

func newPorts(f files, log *zap.Logger) *ports {
	p := &ports{metrics: netlimit.NewMetrics()}
	port := func(name string, limit int) *netlimit.Port {
		return netlimit.NewPort(netlimit.Options{
			Name: name, Max: limit, MaxHalfOpen: max(1, min(1024, limit/2)), Metrics: p.metrics, Logger: log,
		})
	}
	p.client, p.peer, p.dns = port("client", f.clients), port("peer", f.peers), port("dns", f.dns)
	return p
}

func (p *ports) peers(open []net.Listener) []net.Listener {
	limited := make([]net.Listener, len(open))
	for i, l := range open {
		limited[i] = p.peer.Listen(l)
	}
	return limited
}
