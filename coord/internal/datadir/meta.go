package datadir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// formatVersion is the version of the directory's layout and of the metadata. A directory with another one is refused.
const formatVersion = 3

// metadata is the content of meta.json.
type metadata struct {
	Format      int      `json:"format"`
	ClusterID   hexID    `json:"clusterID"`
	MemberID    hexID    `json:"memberID"`
	Name        string   `json:"name"`
	PeerURLs    []string `json:"peerURLs"`
	Incarnation secret   `json:"incarnation"`
	// Boot counts the starts of processes on this directory, the current one included.
	Boot uint64 `json:"boot"`
	// Admitted is set once the member was introduced: from then on it may have taken part in Raft.
	Admitted bool `json:"admitted"`
	// Populated is set once the parts held data: from then on an empty one was wiped.
	Populated bool `json:"populated"`
	// Choices are fixed when the directory is created.
	Choices map[string]string `json:"choices"`
	// Parts are the parts that were created, sorted.
	Parts []string `json:"parts"`
	// Peers has every other member that was met or heard of.
	Peers map[hexID]acquaintance `json:"peers"`
	// Refused are commands of the log that the operator has refused, as statemachine.Refused reads, sorted as strings.
	// They are in the store, too, but for what was taken over since it was opened last.
	Refused []string `json:"refused,omitempty"`
}

// acquaintance is what is on record of another member.
type acquaintance struct {
	// Fingerprint is that of its incarnation: what members tell each other of third ones.
	Fingerprint fingerprint `json:"fingerprint"`
	// Incarnation is there once the member was met.
	Incarnation secret `json:"incarnation,omitzero"`
}

func (a acquaintance) met() bool { return !a.Incarnation.IsZero() }

func metWith(i handshake.Incarnation) acquaintance {
	return acquaintance{Fingerprint: fingerprint{i.Fingerprint()}, Incarnation: secret{i}}
}

// secret is an incarnation as it stands in the file, and only there.
type secret struct{ handshake.Incarnation }

// MarshalText implements encoding.TextMarshaler.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.Reveal()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *secret) UnmarshalText(b []byte) (err error) {
	s.Incarnation, err = handshake.ParseIncarnation(string(b))
	return err
}

// fingerprint is a fingerprint as it stands in the file, whole.
type fingerprint struct{ handshake.Fingerprint }

// MarshalText implements encoding.TextMarshaler.
func (f fingerprint) MarshalText() ([]byte, error) { return []byte(f.Digits()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *fingerprint) UnmarshalText(b []byte) (err error) {
	f.Fingerprint, err = handshake.ParseFingerprint(string(b))
	return err
}

// envelope is what the file holds: the checksum covers the bytes of Meta as they stand.
type envelope struct {
	CRC32C string          `json:"crc32c"`
	Meta   json.RawMessage `json:"meta"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) }

// formatError is of metadata that are whole, and another release's.
type formatError struct{ format int }

// Error implements error.
func (e *formatError) Error() string {
	return fmt.Sprintf("it has format %d, this version of coord reads format %d", e.format, formatVersion)
}

// encodeMeta renders the metadata for the file.
func encodeMeta(m metadata) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(envelope{CRC32C: checksum(body), Meta: body})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// decodeMeta is encodeMeta's inverse. It accepts nothing else: a truncated, changed or unknown file is an error.
func decodeMeta(b []byte) (metadata, error) {
	var e envelope
	if err := decodeStrict(b, &e); err != nil {
		return metadata{}, fmt.Errorf("it is truncated or not metadata: %w", err)
	}
	if got := checksum(e.Meta); got != e.CRC32C {
		return metadata{}, fmt.Errorf("its checksum is %s but the content has %s: it was damaged or edited", e.CRC32C,
			got)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(e.Meta, &version); err != nil {
		return metadata{}, err
	}
	if version.Format != formatVersion {
		return metadata{}, &formatError{version.Format}
	}
	var m metadata
	if err := decodeStrict(e.Meta, &m); err != nil {
		return metadata{}, err
	}
	return m, m.check()
}

// decodeStrict decodes one JSON value without unknown fields and without anything after it.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(b[d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes follow it", len(rest))
	}
	return nil
}

// check reports what a member could never have written.
func (m *metadata) check() error {
	if m.ClusterID == 0 || m.MemberID == 0 || m.Incarnation.IsZero() || m.Boot == 0 {
		return fmt.Errorf("cluster id %s, member id %s, incarnation and boot %d must not be 0", m.ClusterID, m.MemberID,
			m.Boot)
	}
	for id, a := range m.Peers {
		if a.met() && a.Fingerprint.Fingerprint != a.Incarnation.Fingerprint() {
			return fmt.Errorf("fingerprint %s of member %s is not that of its incarnation", a.Fingerprint, id)
		}
	}
	if m.Populated && !m.Admitted {
		return fmt.Errorf("it has data of a member that was never admitted")
	}
	return nil
}

// clone returns a copy that shares nothing which is ever changed.
func (m *metadata) clone() metadata {
	c := *m
	c.Parts, c.Refused = slices.Clone(m.Parts), slices.Clone(m.Refused)
	c.Peers = make(map[hexID]acquaintance, len(m.Peers))
	maps.Copy(c.Peers, m.Peers)
	return c
}

// hexID is an id that reads and writes as etcd shows ids, in hexadecimal digits without leading zeros, in JSON also as
// the key of an object.
type hexID uint64

// String returns the id as it is written everywhere.
func (id hexID) String() string { return strconv.FormatUint(uint64(id), 16) }

// MarshalText implements encoding.TextMarshaler.
func (id hexID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It accepts nothing that String does not write.
func (id *hexID) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || hexID(n).String() != string(b) {
		return fmt.Errorf("%q is not an id in hexadecimal digits", b)
	}
	*id = hexID(n)
	return nil
}
