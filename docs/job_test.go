//go:build unix

package docs_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	_ "github.com/lib/pq" // the driver

	"github.com/coord-dev/coord/coord/coordtest"
)

// A holder that is stopped beyond its TTL is refused by a real database, because the next holder has written with a greater token.
func TestExampleJob(t *testing.T) {
	t.Parallel()
	database := startPostgres(t)
	endpoint, _ := startMember(t)
	job := func(name string, more ...string) *process {
		return start(t, endpoint, "job", append([]string{"-database", database, "-name", name}, more...)...)
	}
	first := job("carol")
	first.hear(t, "wrote")
	if code := first.ended(t); code != 0 {
		t.Fatalf("carol ended with %d", code)
	}

	alice := job("alice", "-ttl", "3s", "-pause")
	stale := alice.hear(t, "holding with token (.*)")
	alice.hear(t, `read "carol "`)
	alice.signal(syscall.SIGSTOP)
	bob := job("bob")
	fresh := bob.hear(t, "holding with token (.*)") // the TTL is over
	bob.hear(t, "wrote")
	if code := bob.ended(t); code != 0 {
		t.Errorf("bob ended with %d", code)
	}
	alice.say(t, "go on")
	alice.signal(syscall.SIGCONT)
	alice.hear(t, fmt.Sprintf("token %s: the database has seen a later holder of the lock", stale[1]))
	if code := alice.ended(t); code != 1 {
		t.Errorf("alice ended with %d", code)
	}

	db, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text, token string
	if err := db.QueryRow(`SELECT text, token FROM report`).Scan(&text, &token); err != nil || text != "carol bob " || token != fresh[1] {
		t.Errorf("the report is %q with token %s (%v), want bob's with token %s", text, token, err, fresh[1])
	}
}

// startPostgres starts a PostgreSQL of the test's own, and returns its URL. It needs Debian's package, or initdb and postgres on
// the path.
func startPostgres(t *testing.T) string {
	t.Helper()
	bin := postgresPrograms(t)
	dir, err := os.MkdirTemp("", "docs-postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	owner := postgresOwner(t, dir)
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: owner}
		cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "-D", data, "-U", "docs", "-A", "trust", "-N").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := coordtest.FreePorts(t, 1)[0]
	server := startCommand(t, command("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-k", dir, "-F"))
	server.hear(t, "database system is ready to accept connections")
	t.Cleanup(func() { // before it is killed: it has children, and shared memory
		server.signal(syscall.SIGINT)
		server.ended(t)
	})
	return fmt.Sprintf("postgres://docs@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// postgresPrograms is the folder with the newest PostgreSQL there is.
func postgresPrograms(t *testing.T) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(slices.Max(found))
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	return filepath.Dir(path)
}

// postgresOwner is who PostgreSQL runs as: we, but it refuses root. The folder becomes its.
func postgresOwner(t *testing.T, dir string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Skip("PostgreSQL refuses root, and there is neither a user postgres nor nobody")
	return nil
}
