package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// disk is a small file system that outlives the processes that use it.
type disk struct {
	holder *process
	path   string // inside of the holder's mount namespace
}

// mount makes a disk of size MiB at path.
func mount(t *testing.T, path string, size int) *disk {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size="$1"m tmpfs "$2" && echo mounted && exec sleep 3600`
	d := &disk{path: path}
	d.holder = launch{namespaces: syscall.CLONE_NEWNS}.start(t, path+".mount.log", "sh", "-c", script, "sh",
		strconv.Itoa(size), path)
	for begin := time.Now(); !strings.Contains(d.holder.output(), "mounted"); time.Sleep(5 * time.Millisecond) {
		if !d.holder.running() || time.Since(begin) > patience {
			t.Fatalf("cannot mount a file system, for which root or a user namespace is needed: %s", d.holder.output())
		}
	}
	return d
}

// wrap is the command before one that is to see the disk.
func (d *disk) wrap() []string {
	pid := strconv.Itoa(d.holder.cmd.Process.Pid)
	if os.Getuid() != 0 {
		return []string{"nsenter", "-t", pid, "-U", "--preserve-credentials", "-m", "--"}
	}
	return []string{"nsenter", "-t", pid, "-m", "--"}
}

// file is a path on the disk as this process sees it.
func (d *disk) file(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", d.holder.cmd.Process.Pid, filepath.Join(d.path, name))
}

// remount changes how the disk is mounted.
func (d *disk) remount(t *testing.T, options string) {
	t.Helper()
	argv := append(d.wrap(), "mount", "-o", "remount,"+options, d.path)
	if p := (launch{}).start(t, d.path+".mount.log", argv...); p.exit(t) != 0 {
		t.Fatalf("remount %s: %s", options, p.tail(3))
	}
}

// free is how many bytes may still be written.
func (d *disk) free(t *testing.T) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.file(""), &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// TestFullDisk fills the disk of one of three members by writing keys, and by a file that is not coord's. Writes are
// refused before the store breaks, everything else works, and after a clean-up writes work again.
func TestFullDisk(t *testing.T) {
	for _, by := range []string{"keys", "a foreign file"} {
		t.Run(by, func(t *testing.T) {
			c := layOut(t, 3)
			victim := c.members[1]
			d := mount(t, victim.dir, 256)
			victim.wrap = d.wrap()
			c.start()
			cli := c.dial()
			acked := map[string]string{}
			if by != "keys" {
				acked = put(t, cli, "small/", 100)
				crowd(t, d, 10<<20) // less than is held in reserve
			}
			for key, value := range fillUp(t, cli) {
				acked[key] = value
			}
			t.Logf("refused with %d MiB left after %d puts", d.free(t)>>20, len(acked))
			for _, m := range c.members {
				if !m.running() {
					t.Fatalf("%s has stopped: %s", m.name, m.tail(10))
				}
			}
			checkServesWhenFull(t, c, cli, acked)
			checkRecovers(t, c, d, victim, cli)
			checkStored(t, cli, acked)
			c.checkEqual()
		})
	}
}

// crowd writes a foreign file that leaves only some bytes.
func crowd(t *testing.T, d *disk, leave int64) {
	t.Helper()
	f, err := os.Create(d.file("foreign"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, d.free(t)-leave); err != nil {
		t.Fatal(err)
	}
}

// bulk is a value that takes room on a disk even if it is compressed.
func bulk(seed int) string {
	b := make([]byte, 64<<10)
	x := uint64(seed)*2 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

// put writes some small keys.
func put(t *testing.T, cli *clientv3.Client, prefix string, n int) map[string]string {
	t.Helper()
	acked := make(map[string]string)
	for i := range n {
		key := fmt.Sprintf("%s%04d", prefix, i)
		if _, err := cli.Put(within(t, patience), key, key); err != nil {
			t.Fatal(err)
		}
		acked[key] = key
	}
	return acked
}

// fillUp writes until writes are refused with the NOSPACE error, and returns what was acknowledged.
func fillUp(t *testing.T, cli *clientv3.Client) map[string]string {
	t.Helper()
	acked := make(map[string]string)
	begin := time.Now()
	for i := 0; time.Since(begin) < 3*patience; i++ { // a few thousand puts, one after the other
		key, value := fmt.Sprintf("bulk/%06d", i), bulk(i)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := cli.Put(ctx, key, value)
		cancel()
		switch {
		case err == nil:
			acked[key] = value
		case errors.Is(err, rpctypes.ErrNoSpace):
			return acked
		default:
			t.Fatalf("put %d: %v; it has to be refused with %v", i, err, rpctypes.ErrNoSpace)
		}
	}
	t.Fatalf("%d puts of 64 KiB were taken on a disk that is full", len(acked))
	return nil
}

// checkServesWhenFull sees that what takes no room works while writes are refused.
func checkServesWhenFull(t *testing.T, c *cluster, cli *clientv3.Client, acked map[string]string) {
	t.Helper()
	ctx := within(t, patience)
	checkStored(t, cli, acked)
	deleted := 0
	for key := range acked {
		if deleted++; deleted > 10 {
			break
		}
		if _, err := cli.Delete(ctx, key); err != nil {
			t.Errorf("delete: %v", err)
		}
		delete(acked, key)
	}
	got, err := cli.Get(ctx, "bulk/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Errorf("compact: %v", err)
	}
	if _, err := cli.Put(ctx, "one more", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("a write is answered with %v while the alarm is up", err)
	}
	alarms, err := cli.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) == 0 {
		t.Errorf("alarms: %v, %v", alarms, err)
	}
}

// checkRecovers gives the disk room, restarts the member whose disk it is, and disarms the alarm.
func checkRecovers(t *testing.T, c *cluster, d *disk, victim *member, cli *clientv3.Client) {
	t.Helper()
	victim.kill() // the crash of a member whose disk is full loses nothing either
	leaveOrphan(t, d)
	victim.start(t)
	victim.waitReady(t)
	d.remount(t, "size=1g")
	time.Sleep(time.Second) // the free space is looked at ten times a second
	ctx := within(t, patience)
	if _, err := cli.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatalf("disarm: %v", err)
	}
	if _, err := cli.Put(ctx, "after", "the alarm"); err != nil {
		t.Errorf("a write after the alarm was disarmed: %v", err)
	}
}

// leaveOrphan fills the disk to the last byte with a table that no manifest of the store names, as a process leaves one
// that is killed while the store compacts. The store deletes it when it is opened.
func leaveOrphan(t *testing.T, d *disk) {
	t.Helper()
	manifests, err := filepath.Glob(d.file("member/db/1/*/MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no store on the disk: %v", err)
	}
	f, err := os.Create(filepath.Join(filepath.Dir(manifests[0]), "999999.sst"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if free := d.free(t); free > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, free); err != nil {
			t.Fatal(err)
		}
	}
}

// checkStored sees that everything acknowledged is there.
func checkStored(t *testing.T, cli *clientv3.Client, acked map[string]string) {
	t.Helper()
	got, err := cli.Get(within(t, patience), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	stored := make(map[string]string)
	for _, kv := range got.Kvs {
		stored[string(kv.Key)] = string(kv.Value)
	}
	for key, value := range acked {
		if stored[key] != value {
			t.Errorf("%s was acknowledged and is not there", key)
		}
	}
}
