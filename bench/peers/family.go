package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/coord-dev/coord/bench/wire"
)

// family is how products that resemble each other are configured and asked.
type family interface {
	// configure returns the command line of each member, given their addresses and the folder that holds all of their
	// data. Member i keeps its own in memberDir(dir, i).
	configure(p Product, dir string, members []addresses) ([][]string, error)
	// waitReady returns when the member that serves clients at endpoint has shown that it serves, or with ctx.
	waitReady(ctx context.Context, endpoint string) error
	// leader returns the index in endpoints of the member that leads, asking until one says so or ctx ends.
	leader(ctx context.Context, endpoints []string) (int, error)
	// version is what the member says of itself.
	version(ctx context.Context, endpoint string) (string, error)
}

// addresses of one member, host:port each.
type addresses struct {
	client, peer, election string
}

func (p Product) family() family {
	if p.Kind == ZooKeeper {
		return zooKeeper{}
	}
	return etcdLike{}
}

func memberName(i int) string { return fmt.Sprintf("m%d", i) }

func memberDir(dir string, i int) string { return filepath.Join(dir, memberName(i)) }

// etcdLike products take etcd's flags and speak its API.
type etcdLike struct{}

func (etcdLike) configure(p Product, dir string, members []addresses) ([][]string, error) {
	var initial []string
	for i, m := range members {
		initial = append(initial, fmt.Sprintf("%s=http://%s", memberName(i), m.peer))
	}
	var lines [][]string
	for i, m := range members {
		argv := append([]string(nil), p.Command...)
		argv = append(argv,
			"--name="+memberName(i),
			"--data-dir="+memberDir(dir, i),
			"--listen-client-urls=http://"+m.client,
			"--advertise-client-urls=http://"+m.client,
			"--listen-peer-urls=http://"+m.peer,
			"--initial-advertise-peer-urls=http://"+m.peer,
			"--initial-cluster="+strings.Join(initial, ","),
			"--initial-cluster-state=new")
		lines = append(lines, append(argv, p.Flags...))
	}
	return lines, nil
}

func (etcdLike) waitReady(ctx context.Context, endpoint string) error {
	return wire.WaitReady(ctx, endpoint)
}

func (etcdLike) leader(ctx context.Context, endpoints []string) (int, error) {
	return wire.Leader(ctx, endpoints)
}

func (etcdLike) version(ctx context.Context, endpoint string) (string, error) {
	st, err := wire.Status(ctx, endpoint)
	return st.GetVersion(), err
}
