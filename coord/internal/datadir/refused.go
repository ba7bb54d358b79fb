package datadir

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// Refused are the commands of the log that the operator has refused, for the machine to take over before it applies
// anything.
func (d *Dir) Refused() []string { return d.current().Refused }

// TakeOver implements handshake.PeerRecords.
func (r peerRecords) TakeOver(refused []string) error { return r.d.Refuse(refused...) }

// Refusals implements handshake.PeerRecords.
func (r peerRecords) Refusals() []string { return r.d.Refused() }

// Refuse adds commands to those that are refused, durably.
func (d *Dir) Refuse(commands ...string) error {
	return d.update(func(m *metadata) {
		m.Refused = slices.Compact(slices.Sorted(slices.Values(append(m.Refused, commands...))))
	})
}

// RefuseCommand has the member whose directory this is, and which does not run, refuse a command of the log. walDir is
// what the member runs with, "" for none. inStore adds it to the list in the store of the directory, or says why it
// must not be; it may be called for one that is there.
func RefuseCommand(dataDir, walDir, command string, log *zap.Logger, inStore func(*Dir) error) (err error) {
	fs := vfs.Default
	if _, err := fs.Stat(fs.PathJoin(dataDir, "member", metaFile)); err != nil {
		return fmt.Errorf("%q is no data directory of a member: %w", dataDir, err)
	}
	d := &Dir{path: dataDir, walDir: walDir, log: log}
	if err := d.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	b, err := readFile(d.fs, d.metaPath())
	if err != nil {
		return fmt.Errorf("read data directory %q: %w", d.path, err)
	}
	m, err := decodeMeta(b)
	if err != nil {
		return d.unusable(err)
	}
	d.meta = &m
	if err := inStore(d); err != nil {
		return err
	}
	return d.Refuse(command)
}
