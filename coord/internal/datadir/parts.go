package datadir

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

const (
	partWAL = "wal"
	partDB  = "db"
	// markerFile is in every part. It has no leading dot, so that whatever empties the part takes it along.
	markerFile = "COORD-PART"
)

// A part is a directory inside, or in the case of the wal perhaps beside, the data directory.
type part struct {
	name, path string
}

func (d *Dir) parts() []part {
	return []part{{partDB, d.DBPath()}, {partWAL, d.WALPath()}}
}

func marker(name string, incarnation handshake.Incarnation) string {
	return fmt.Sprintf("coord part %s\nincarnation %s\n", name, incarnation)
}

// createPart makes an empty part with its marker, durably. It may have been interrupted before.
func (d *Dir) createPart(p part, incarnation handshake.Incarnation) error {
	if err := makeDir(d.fs, p.path); err != nil {
		return fmt.Errorf("create part %s of the data directory: %w", p.name, err)
	}
	err := d.checkMarker(p, incarnation)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	held, err := d.contents(p)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		return refuse(ErrWiped, "part %s at %q already holds data (%s) but the data directory is new: it belongs to "+
			"another member, or the rest of its data directory was wiped; use an empty directory, or %s", p.name,
			p.path, held[0], fix)
	}
	if err := writeFile(d.fs, d.fs.PathJoin(p.path, markerFile), []byte(marker(p.name, incarnation))); err != nil {
		return fmt.Errorf("mark part %s of the data directory: %w", p.name, err)
	}
	return nil
}

// checkMarker returns an os.ErrNotExist if the part or its marker is missing.
func (d *Dir) checkMarker(p part, incarnation handshake.Incarnation) error {
	b, err := readFile(d.fs, d.fs.PathJoin(p.path, markerFile))
	if err != nil {
		return err
	}
	if string(b) != marker(p.name, incarnation) {
		return refuse(ErrWiped, "data directory %q is inconsistent: part %s at %q was made for another data directory "+
			"(its marker is not of incarnation %s); if it was wiped or replaced, %s", d.path, p.name, p.path,
			incarnation, fix)
	}
	return nil
}

// checkParts reports the first part that was created once and is gone.
func (d *Dir) checkParts(m *metadata) error {
	for _, p := range d.parts() {
		if !slices.Contains(m.Parts, p.name) {
			continue
		}
		err := d.checkMarker(p, m.Incarnation.Incarnation)
		if errors.Is(err, os.ErrNotExist) {
			return d.wiped(p, "is missing or has lost its file "+markerFile)
		}
		if err != nil {
			return err
		}
		if err := d.checkPopulated(p, m); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) checkPopulated(p part, m *metadata) error {
	held, err := d.contents(p)
	if err != nil {
		return err
	}
	if m.Populated && len(held) == 0 {
		return d.wiped(p, "is empty")
	}
	return nil
}

func (d *Dir) wiped(p part, how string) error {
	hint := ""
	if p.name == partWAL {
		hint = " (was --wal-dir changed?)"
	}
	return refuse(ErrWiped, "data directory %q is partly wiped: part %s at %q %s%s; %s", d.path, p.name, p.path, how,
		hint, fix)
}

// contents lists a part without the marker. A part that is missing is empty.
func (d *Dir) contents(p part) ([]string, error) {
	names, err := d.fs.List(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read part %s of the data directory: %w", p.name, err)
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(n string) bool {
		return n == markerFile || n == markerFile+".tmp" || n == "lost+found"
	}), nil
}

// checkNoRemains reports what should not be there if the metadata is missing.
func (d *Dir) checkNoRemains() error {
	if etcd, err := exists(d.fs, d.fs.PathJoin(d.memberPath(), "snap")); err != nil || etcd {
		if err != nil {
			return fmt.Errorf("read data directory %q: %w", d.path, err)
		}
		return refuse(ErrOther, "data directory %q was written by etcd: coord cannot read it, use another --data-dir",
			d.path)
	}
	for _, p := range d.parts() {
		marked, err := exists(d.fs, d.fs.PathJoin(p.path, markerFile))
		if err != nil {
			return fmt.Errorf("read part %s of the data directory: %w", p.name, err)
		}
		held, err := d.contents(p)
		if err != nil {
			return err
		}
		if marked || len(held) > 0 {
			return refuse(ErrWiped, "data directory %q is partly wiped: %q is missing while part %s at %q exists; %s",
				d.path, d.metaPath(), p.name, p.path, fix)
		}
	}
	return nil
}
