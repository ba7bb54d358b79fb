package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

var errNoCopy = errors.New("config: there is no copy on disk")

// diskCopy is the last good version of a bundle, kept in a file.
type diskCopy struct {
	bundle  string
	cluster uint64
	version *stored
}

func (c *diskCopy) place() place {
	return place{cluster: c.cluster, revision: c.version.Revision, mod: c.version.Revision, number: c.version.Number}
}

// copyFile is what the file has, as JSON.
type copyFile struct {
	Bundle   string
	Cluster  uint64
	Revision int64
	Version  []byte // as it stands in the store: a coordv1.ConfigVersion
	Sum      []byte // SHA-256 of all of this with Sum empty
}

func (c copyFile) sum() ([]byte, error) {
	c.Sum = nil
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	return sum[:], err
}

// readCopy returns what writeCopy has written for the bundle, or errNoCopy.
func readCopy(path, bundle string) (*diskCopy, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoCopy
	}
	if err != nil {
		return nil, err
	}
	var c copyFile
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("the copy in %s is damaged: %w", path, err)
	}
	if sum, err := c.sum(); err != nil || !bytes.Equal(sum, c.Sum) {
		return nil, fmt.Errorf("the copy in %s is damaged: its checksum differs", path)
	}
	if c.Bundle != bundle {
		return nil, fmt.Errorf("the copy in %s is of bundle %q, not %q", path, c.Bundle, bundle)
	}
	version, err := parseStored(c.Version, c.Revision)
	if err != nil {
		return nil, fmt.Errorf("the copy in %s is damaged: %w", path, err)
	}
	return &diskCopy{bundle: c.Bundle, cluster: c.Cluster, version: version}, nil
}

// writeCopy replaces the file by one that is on disk when it returns: whoever reads the path finds the old or the new
// one.
func writeCopy(path string, c *diskCopy) error {
	file := copyFile{Bundle: c.bundle, Cluster: c.cluster, Revision: c.version.Revision, Version: c.version.value}
	var err error
	if file.Sum, err = file.sum(); err != nil {
		return err
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // readable by the owner only
	if err != nil {
		return fmt.Errorf("config: write the copy: %w", err)
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("config: write the copy: %w", err)
	}
	// where directories can be synced; elsewhere a crash may bring the old one back
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
