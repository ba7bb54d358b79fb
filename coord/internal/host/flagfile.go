package host

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lni/dragonboat/v4/raftpb"
)

const (
	// flagFile is where Dragonboat keeps who a directory belongs to; idFile where
	// it keeps its NodeHost id.
	flagFile = "dragonboat.ds"
	idFile   = "NODEHOST.ID"
	// sumSize is the size of the checksum in front of both.
	sumSize = 8
)

// readFlagFile returns the content of one of Dragonboat's flag files, which is a
// checksum (the last 8 bytes of an MD5) followed by the data. Dragonboat itself
// panics on a damaged file, and NewNodeHost then returns nothing at all.
func readFlagFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < sumSize || !bytes.Equal(b[:sumSize], flagSum(b[sumSize:])) {
		return nil, fmt.Errorf("%s is damaged or was not written completely", path)
	}
	return b[sumSize:], nil
}

func flagSum(data []byte) []byte {
	sum := md5.Sum(data)
	return sum[len(sum)-sumSize:]
}

// writeFlagFile replaces a flag file atomically and durably.
func writeFlagFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(append(flagSum(data), data...))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes creations, renames and removals in a directory survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// adoptHostname makes a directory that Dragonboat wrote under another host name
// usable under this one. Dragonboat puts the host's name into the path of its
// data and refuses to open it under another. The caller holds the directory's
// lock. A crash at any point is repaired by the next call: the data is moved
// first, and the flag file, which decides, is written last.
func adoptHostname(dir, hostname string) error {
	if err := checkIDFile(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, flagFile)
	data, err := readFlagFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was written yet
	}
	if err != nil {
		return err
	}
	var status raftpb.RaftDataStatus
	if err := status.Unmarshal(data); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	was := strings.TrimSpace(status.Hostname)
	if was == "" || strings.EqualFold(was, hostname) && dirExists(filepath.Join(dir, hostname)) {
		return nil
	}
	if err := moveHostDir(dir, was, hostname); err != nil {
		return err
	}
	status.Hostname = hostname
	if data, err = status.Marshal(); err != nil {
		return err
	}
	return writeFlagFile(path, data)
}

func checkIDFile(dir string) error {
	_, err := readFlagFile(filepath.Join(dir, idFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// moveHostDir renames the data's directory. It is done already when only the new
// one exists.
func moveHostDir(dir, was, now string) error {
	from, to := filepath.Join(dir, was), filepath.Join(dir, now)
	if !dirExists(from) {
		if dirExists(to) {
			return nil
		}
		return fmt.Errorf("raft log of host %q is missing in %s", was, dir)
	}
	if dirExists(to) {
		return fmt.Errorf("raft logs of hosts %q and %q both exist in %s: move away the one that is not in use", was,
			now, dir)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("adopt raft log of host %q: %w", was, err)
	}
	return SyncDir(dir)
}

func dirExists(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
