package peers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// zooKeeperJar is where Debian's package zookeeper puts it.
	zooKeeperJar  = "/usr/share/java/zookeeper.jar"
	zooKeeperMain = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
	// zooKeeperHeap is more than it needs: its collector shall not be what limits it.
	zooKeeperHeap = "-Xmx1g"
)

// zooKeeperCommand returns the command line up to the name of the configuration file.
func zooKeeperCommand() ([]string, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w: no java in the PATH (Debian: apt-get install zookeeper)", ZooKeeper,
			ErrNotInstalled)
	}
	if _, err := os.Stat(zooKeeperJar); err != nil {
		return nil, fmt.Errorf("peer %s: %w: no %s (Debian: apt-get install zookeeper)", ZooKeeper, ErrNotInstalled,
			zooKeeperJar)
	}
	return []string{java, zooKeeperHeap, "-Dzookeeper.jmx.log4j.disable=true", "-cp", zooKeeperJar, zooKeeperMain}, nil
}

// zooKeeper is configured by a file and asked by words of four letters.
type zooKeeper struct{}

func (zooKeeper) configure(p Product, dir string, members []addresses) ([][]string, error) {
	var lines [][]string
	for i := range members {
		memberDir := memberDir(dir, i)
		if err := os.MkdirAll(memberDir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(memberDir, "myid"), fmt.Appendln(nil, i+1), 0o644); err != nil {
			return nil, err
		}
		config, err := zooKeeperConfig(memberDir, i, members)
		if err != nil {
			return nil, err
		}
		file := memberDir + ".cfg"
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return nil, err
		}
		lines = append(lines, append(append(append([]string(nil), p.Command...), file), p.Flags...))
	}
	return lines, nil
}

// zooKeeperConfig returns the text of member i's configuration. A member that is alone is told of no quorum.
func zooKeeperConfig(dir string, i int, members []addresses) (string, error) {
	host, port, err := net.SplitHostPort(members[i].client)
	if err != nil {
		return "", err
	}
	lines := []string{
		"tickTime=2000", "dataDir=" + dir, "clientPort=" + port, "clientPortAddress=" + host,
		"admin.enableServer=false", "maxClientCnxns=0", "4lw.commands.whitelist=*",
	}
	if len(members) > 1 {
		lines = append(lines, "initLimit=10", "syncLimit=5")
		for n, m := range members {
			_, election, err := net.SplitHostPort(m.election)
			if err != nil {
				return "", err
			}
			lines = append(lines, fmt.Sprintf("server.%d=%s:%s", n+1, m.peer, election))
		}
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// srvr is what a server says when asked for its state.
type srvr struct {
	version, mode string
}

// serves reports whether the server has a place in a quorum, or needs none.
func (s srvr) serves() bool { return s.mode != "" }

// leads reports whether the server is the one that orders writes.
func (s srvr) leads() bool { return s.mode == "leader" || s.mode == "standalone" }

func parseSrvr(text string) srvr {
	var s srvr
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "Zookeeper version":
			s.version, _, _ = strings.Cut(value, "-") // then the commit and the date
		case "Mode":
			s.mode = value
		}
	}
	return s
}

// askTimeout bounds one question.
const askTimeout = 2 * time.Second

func askSrvr(ctx context.Context, endpoint string) (srvr, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return srvr{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return srvr{}, err
	}
	text, err := io.ReadAll(conn)
	return parseSrvr(string(text)), err
}

// until asks each of endpoints, again and again, until one answers as wanted; it returns the index.
func until(ctx context.Context, endpoints []string, wanted func(srvr) bool) (int, error) {
	for {
		for i, e := range endpoints {
			if s, err := askSrvr(ctx, e); err == nil && wanted(s) {
				return i, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("ask %s: %w", strings.Join(endpoints, ", "), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (zooKeeper) waitReady(ctx context.Context, endpoint string) error {
	_, err := until(ctx, []string{endpoint}, srvr.serves)
	return err
}

func (zooKeeper) leader(ctx context.Context, endpoints []string) (int, error) {
	return until(ctx, endpoints, srvr.leads)
}

func (zooKeeper) version(ctx context.Context, endpoint string) (string, error) {
	s, err := askSrvr(ctx, endpoint)
	return s.version, err
}
