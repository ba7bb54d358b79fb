package logstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// ErrNoLog is wrapped by ReadStopped where there is no log, or are several.
var ErrNoLog = errors.New("no raft log")

// ReadStopped reads the log of a replica that does not run, without writing to it: the index of its last entry, 0 for
// none, and what the entry of an index carries. command is nil where the log does not hold that entry, or it carries
// nothing that a client proposed. dir is what Dragonboat was given as the directory of the log.
func ReadStopped(fs vfs.FS, dir string, shard, replica, index uint64) (last uint64, command []byte, err error) {
	path, err := find(fs, dir)
	if err != nil {
		return 0, nil, err
	}
	o := Factory{FS: fs}.options(fs, path)
	o.ReadOnly = true
	s, err := open(path, o)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tail, err := s.tail(raftio.GetNodeInfo(shard, replica))
	if err != nil {
		return 0, nil, err
	}
	entries, _, err := s.IterateEntries(nil, 0, shard, replica, index, index+1, 0)
	if err != nil || len(entries) == 0 || entries[0].Type != pb.EncodedEntry || len(entries[0].Cmd) < 2 {
		return tail.last, nil, err
	}
	// behind Dragonboat's byte that says how it is encoded: not at all, see package peer
	return tail.last, entries[0].Cmd[1:], nil
}

// find returns the one store below dir, where Dragonboat put it under the host's name and its own number.
func find(fs vfs.FS, dir string) (string, error) {
	var found []string
	hosts, err := fs.List(dir)
	if err != nil {
		return "", fmt.Errorf("%w in %s: %w", ErrNoLog, dir, err)
	}
	for _, host := range hosts {
		numbers, _ := fs.List(fs.PathJoin(dir, host)) // of a file there are none
		for _, number := range numbers {
			path := fs.PathJoin(dir, host, number, subdir)
			if _, err := fs.Stat(path); err == nil {
				found = append(found, path)
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w in %s: %d stores", ErrNoLog, dir, len(found))
	}
	return found[0], nil
}
