// Package peers starts, watches and stops the servers that the benchmark compares. Every server is a process of its own
// with a data directory of its own; what it prints goes to a log file beside its data.
package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Kinds of servers; also the names of the peers, as they stand in the table.
const (
	Coord     = "coord"
	Etcd      = "etcd"
	ZooKeeper = "zookeeper"
	Ceiling   = "ceiling"
)

// Kinds returns all of them.
func Kinds() []string { return []string{Etcd, ZooKeeper, Coord, Ceiling} }

// ErrNotInstalled is what Lookup returns for a peer that this machine does not have and that need not be there.
var ErrNotInstalled = errors.New("not installed")

// Subcommands by which the benchmark's own binary acts as a server, so that the comparison with etcd needs nothing
// installed.
const (
	ServeEtcd = "serve-etcd"
	ServeNull = "serve-null"
)

// Product is a server that can be started as a cluster.
type Product struct {
	// Kind is one of the constants above.
	Kind string
	// Name is the kind, possibly with a suffix that tells two configurations apart.
	Name string
	// Command is the program and the arguments that come before the flags.
	Command []string
	// Flags come after the flags that every product of its family gets.
	Flags []string
}

// With returns the product under another name with more flags.
func (p Product) With(name string, flags ...string) Product {
	p.Name = name
	p.Flags = append(append([]string(nil), p.Flags...), flags...)
	return p
}

// Stateless products answer without replication: they always run as one process.
func (p Product) Stateless() bool { return p.Kind == Ceiling }

// SpeaksEtcd reports whether the product serves etcd's API.
func (p Product) SpeaksEtcd() bool { return p.Kind != ZooKeeper }

// Lookup returns the product called name. self is the path of the benchmark's own binary, coordd that of the server
// under test, valueBytes the size of the values that the ceiling returns. The error wraps ErrNotInstalled if the
// product is one to be left out.
func Lookup(name, self, coordd string, valueBytes int) (Product, error) {
	p := Product{Kind: name, Name: name}
	switch name {
	case Etcd:
		p.Command = []string{self, ServeEtcd}
		// The default quota of 2 GiB could end a long run; it costs nothing below it.
		p.Flags = []string{"--quota-backend-bytes=8589934592"}
	case ZooKeeper:
		command, err := zooKeeperCommand()
		if err != nil {
			return Product{}, err
		}
		p.Command = command
	case Ceiling:
		p.Command = []string{self, ServeNull}
		p.Flags = []string{fmt.Sprintf("--value-bytes=%d", valueBytes)}
	case Coord:
		if _, err := os.Stat(coordd); err != nil {
			return Product{}, fmt.Errorf("peer %s: no server binary (run make build, or name it with -coordd): %w",
				name, err)
		}
		p.Command = []string{coordd}
	default:
		return Product{}, fmt.Errorf("unknown peer %q: want some of %s", name, strings.Join(Kinds(), ", "))
	}
	return p, nil
}

// BinaryVersion returns the first line of what `program --version` prints, or the reason why it printed nothing.
func BinaryVersion(program string) string {
	out, err := exec.Command(program, "--version").Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		return fmt.Sprintf("unknown (%v)", err)
	}
	return line
}
