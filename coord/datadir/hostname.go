package datadir

import (
	"fmt"

	"go.uber.org/zap"
)

// dragonboatFlag is where Dragonboat records, among things we record ourselves, the host's name. It is written again if
// it is missing.
const dragonboatFlag = "dragonboat.ds"

// moveHost follows a change of the host's name: Dragonboat keeps its files in a folder of that name and refuses to open
// them under another one. Each step can be repeated after a crash, and the new name is recorded after the last.
func (d *Dir) moveHost(m *metadata) error {
	if m.Hostname == d.hostname {
		return nil
	}
	from, to := d.fs.PathJoin(d.WALPath(), m.Hostname), d.fs.PathJoin(d.WALPath(), d.hostname)
	moved, err := d.renameOnce(from, to)
	if err != nil {
		return fmt.Errorf("data directory %q: the host was renamed from %s to %s: %w", d.path, m.Hostname, d.hostname, err)
	}
	if err := d.removeFlag(); err != nil {
		return fmt.Errorf("data directory %q: the host was renamed from %s to %s: %w", d.path, m.Hostname, d.hostname, err)
	}
	d.log.Info("the host was renamed", zap.String("from", m.Hostname), zap.String("to", d.hostname), zap.Bool("moved", moved))
	return nil
}

func (d *Dir) renameOnce(from, to string) (bool, error) {
	present, err := exists(d.fs, from)
	if err != nil || !present {
		return false, err
	}
	taken, err := exists(d.fs, to)
	if err != nil {
		return false, err
	}
	if taken {
		return false, fmt.Errorf("both %q and %q exist", from, to)
	}
	if err := d.fs.Rename(from, to); err != nil {
		return false, err
	}
	return true, syncDir(d.fs, d.WALPath())
}

func (d *Dir) removeFlag() error {
	path := d.fs.PathJoin(d.WALPath(), dragonboatFlag)
	present, err := exists(d.fs, path)
	if err != nil || !present {
		return err
	}
	if err := d.fs.Remove(path); err != nil {
		return err
	}
	return syncDir(d.fs, d.WALPath())
}
