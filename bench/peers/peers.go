// Package peers starts, watches and stops the servers that the benchmark compares. Every server is a process of its
// own with a data directory of its own and takes etcd's flags; what it prints goes to a log file beside its data.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Names of the peers, as they stand in the table.
const (
	Coord   = "coord"
	Etcd    = "etcd"
	Ceiling = "ceiling"
)

// Subcommands by which the benchmark's own binary acts as a server, so that the comparison needs nothing installed.
const (
	ServeEtcd = "serve-etcd"
	ServeNull = "serve-null"
)

// Product is a server that can be started as a cluster.
type Product struct {
	// Name is one of the constants above, possibly with a suffix that tells two configurations apart.
	Name string
	// Command is the program and the arguments that come before the flags.
	Command []string
	// Flags come after the flags that every product gets.
	Flags []string
	// Stateless products answer without replication: they always run as one process.
	Stateless bool
}

// With returns the product under another name with more flags.
func (p Product) With(name string, flags ...string) Product {
	p.Name = name
	p.Flags = append(append([]string(nil), p.Flags...), flags...)
	return p
}

// Lookup returns the product called name. self is the path of the benchmark's own binary, coordd that of the server
// under test, valueBytes the size of the values that the ceiling returns.
func Lookup(name, self, coordd string, valueBytes int) (Product, error) {
	switch name {
	case Etcd:
		// The default quota of 2 GiB could end a long run; it costs nothing below it.
		return Product{Name: Etcd, Command: []string{self, ServeEtcd}, Flags: []string{"--quota-backend-bytes=8589934592"}}, nil
	case Ceiling:
		flags := []string{fmt.Sprintf("--value-bytes=%d", valueBytes)}
		return Product{Name: Ceiling, Command: []string{self, ServeNull}, Flags: flags, Stateless: true}, nil
	case Coord:
		if _, err := os.Stat(coordd); err != nil {
			return Product{}, fmt.Errorf("peer %s: no server binary (run make build, or name it with -coordd): %w", name, err)
		}
		return Product{Name: Coord, Command: []string{coordd}}, nil
	}
	return Product{}, fmt.Errorf("unknown peer %q: want %s, %s or %s", name, Coord, Etcd, Ceiling)
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
