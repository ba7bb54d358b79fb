package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/coord-dev/coord/bench/process"
)

// readyTimeout is how long a member may take from exec until it serves.
const readyTimeout = 2 * time.Minute

// Member is one server of a cluster. Its methods are not safe for concurrent use.
type Member struct {
	Name string
	// Endpoint is the host and port it serves clients on.
	Endpoint string

	family  family
	argv    []string
	logFile string
	proc    *process.Process
}

// Cluster is one product running as one or more members.
type Cluster struct {
	Product Product
	Members []*Member

	dir string
}

// Start runs product with n members, their data under a new folder in dir, and returns when each of them
// serves. On an error nothing is left running.
func Start(ctx context.Context, product Product, n int, dir string) (*Cluster, error) {
	if product.Stateless() {
		n = 1
	}
	clusterDir, err := os.MkdirTemp(dir, product.Name+"-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Product: product, dir: clusterDir}
	if err := c.configure(n); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if err := c.StartAll(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// portsPerMember are those of addresses.
const portsPerMember = 3

// configure chooses ports and each member's command line.
func (c *Cluster) configure(n int) error {
	addrs, err := freeAddrs(portsPerMember * n)
	if err != nil {
		return err
	}
	var members []addresses
	for a := range slices.Chunk(addrs, portsPerMember) {
		members = append(members, addresses{client: a[0], peer: a[1], election: a[2]})
	}
	lines, err := c.Product.family().configure(c.Product, c.dir, members)
	if err != nil {
		return err
	}
	for i, argv := range lines {
		c.Members = append(c.Members, &Member{
			Name: memberName(i), Endpoint: members[i].client,
			family: c.Product.family(), argv: argv, logFile: memberDir(c.dir, i) + ".log",
		})
	}
	return nil
}

// Servers listen in this range, below the one from which the kernel takes the ports of outgoing connections: a client
// that tries again and again to reach a killed member must not be given that member's own port.
const firstPort, endPort = 20000, 32000

// freeAddrs returns n loopback addresses that nothing listens on. They are found by listening on all of them at once
// and letting go, so somebody else could take one before the server does; it then says so and the run ends.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range endPort - firstPort {
		if len(addrs) == n {
			return addrs, nil
		}
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(endPort-firstPort))
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, addr)
	}
	return nil, fmt.Errorf("found %d of %d free ports from %d to %d", len(addrs), n, firstPort, endPort-1)
}

// StartAll starts every member that is not running and returns when all serve.
func (c *Cluster) StartAll(ctx context.Context) error {
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	for _, m := range c.Members {
		if err := m.WaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.Product.Name, err)
		}
	}
	return nil
}

// Stop ends every member at once and removes their data; they get no time to flush what nobody will read. It can be
// called at any time, and again.
func (c *Cluster) Stop() error {
	for _, m := range c.Members {
		m.Kill()
	}
	return os.RemoveAll(c.dir)
}

// Endpoints returns the members' client addresses in order.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.Endpoint)
	}
	return out
}

// Leader returns the index of the member that leads, asking until one says so or ctx ends.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	return c.Product.family().leader(ctx, c.Endpoints())
}

// Version returns what the first member says of itself.
func (c *Cluster) Version(ctx context.Context) (string, error) {
	return c.Product.family().version(ctx, c.Members[0].Endpoint)
}

// Pids returns the members' process ids.
func (c *Cluster) Pids() []int {
	var out []int
	for _, m := range c.Members {
		out = append(out, m.proc.Pid())
	}
	return out
}

// Usage returns the sum over the members.
func (c *Cluster) Usage() (process.Usage, error) {
	var sum process.Usage
	for _, m := range c.Members {
		u, err := m.Usage()
		if err != nil {
			return process.Usage{}, err
		}
		sum = sum.Add(u)
	}
	return sum, nil
}

// Start runs the member with the data it has; it does nothing when the member is running.
func (m *Member) Start() error {
	if m.proc != nil && m.proc.Running() {
		return nil
	}
	p, err := process.Start(m.argv, m.logFile)
	if err != nil {
		return err
	}
	m.proc = p
	return nil
}

// Started returns the instant just before the last exec.
func (m *Member) Started() time.Time { return m.proc.Started() }

// WaitReady returns when the member has served a linearizable read, or what its kind has instead. When its process ends
// first, or time runs out, the error holds the end of its log.
func (m *Member) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	go func(done <-chan struct{}) {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	}(m.proc.Done())
	if err := m.family.waitReady(ctx, m.Endpoint); err != nil {
		return m.proc.Explain(fmt.Errorf("member %s is not ready: %w", m.Name, err))
	}
	return nil
}

// Kill ends the member as kill -9 does.
func (m *Member) Kill() {
	if m.proc != nil {
		m.proc.Kill()
	}
}

// Terminate asks the member to stop and waits until it has. It does nothing when the member is not running.
func (m *Member) Terminate() error {
	if m.proc == nil {
		return nil
	}
	return m.proc.Terminate()
}

// Usage returns what the running member has used so far.
func (m *Member) Usage() (process.Usage, error) {
	u, err := m.proc.Usage()
	if err != nil {
		return process.Usage{}, fmt.Errorf("member %s: %w", m.Name, err)
	}
	return u, nil
}
