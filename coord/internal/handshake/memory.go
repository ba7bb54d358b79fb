package handshake

import (
	"maps"
	"slices"
	"sync"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Memory is a PeerRecords that forgets everything with its process, for tests and for who runs without a data
// directory. Its zero value knows nobody.
type Memory struct {
	// Refuse, if set, judges; it is set before the first use.
	Refuse func(Hello) error
	// Cluster is the version of the cluster, 0 if it is not known.
	Cluster raftv1.Version
	// Begun is the identity of the history, 0 if it is not known.
	Begun uint64

	mu    sync.Mutex
	known map[uint64]Incarnation
	heard map[uint64]Fingerprint
	taken []string // refused commands
}

// Version implements PeerRecords.
func (m *Memory) Version() raftv1.Version { return m.Cluster }

// History implements PeerRecords.
func (m *Memory) History() uint64 { return m.Begun }

// Refusals implements PeerRecords.
func (m *Memory) Refusals() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken
}

// TakeOver implements PeerRecords.
func (m *Memory) TakeOver(refusals []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(m.taken), refusals...))))
	return nil
}

// Known implements PeerRecords.
func (m *Memory) Known(member uint64) (Incarnation, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, met := m.known[member]
	return i, met
}

// Judge implements PeerRecords.
func (m *Memory) Judge(h Hello) error {
	m.mu.Lock()
	heard, ok := m.heard[h.Member]
	m.mu.Unlock()
	if ok && heard != h.Fingerprint {
		return Refuse(Wiped, "member %x has incarnation %s but was known as %s", h.Member, h.Fingerprint, heard)
	}
	if m.Refuse == nil {
		return nil
	}
	return m.Refuse(h)
}

// Record implements PeerRecords.
func (m *Memory) Record(member uint64, i Incarnation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known, m.heard = make(map[uint64]Incarnation), make(map[uint64]Fingerprint)
	}
	if had, met := m.known[member]; met && !had.Equal(i) {
		return Refuse(Wiped, "member %x has incarnation %s but was known as %s", member, i, had)
	}
	m.known[member], m.heard[member] = i, i.Fingerprint()
	return nil
}

// Heard implements PeerRecords.
func (m *Memory) Heard() map[uint64]Fingerprint {
	m.mu.Lock()
	defer m.mu.Unlock()
	heard := make(map[uint64]Fingerprint)
	maps.Copy(heard, m.heard)
	return heard
}

// Learn implements PeerRecords.
func (m *Memory) Learn(told map[uint64]Fingerprint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heard == nil {
		m.known, m.heard = make(map[uint64]Incarnation), make(map[uint64]Fingerprint)
	}
	for member, f := range told {
		if _, ok := m.heard[member]; !ok {
			m.heard[member] = f
		}
	}
	return nil
}
