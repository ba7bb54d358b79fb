package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
	"github.com/coord-dev/coord/statemachine/undo"
)

// sessions is the table of sessions: leases with an identity, an epoch, the stream they are attached to, and the
// outcomes that their client has not acknowledged. It is a cache of rows:
//
//	sessions  0d lease:8 → uvarint created | uvarint epoch | uvarint stream | identity
//	outcomes  0e …       → see outcomes
//
// The stream in this row is the one that was told of the session last. Its lease may have left that stream already,
// because it is overdue: see package lease.
type sessions struct {
	mu   sync.RWMutex // guards byID, and of each session all but outcomes, against readers: only the apply changes them
	byID map[statemachine.LeaseID]*session
	undo *undo.Log // where put, remove and attach note how to take them back
	held held      // for the apply only
}

type session struct {
	id       statemachine.LeaseID
	created  uint64 // log index
	epoch    uint64
	stream   uint64
	identity []byte
	outcomes outcomes // for the apply only
}

func newSessions(log *undo.Log) *sessions {
	return &sessions{
		byID: make(map[statemachine.LeaseID]*session), undo: log, held: held{perStream: make(map[uint64]int)},
	}
}

func (t *sessions) put(s *session) {
	t.undo.Note(func() { t.set(s.id, nil) })
	t.set(s.id, s)
}

// remove deletes a session, which is there.
func (t *sessions) remove(s *session) {
	t.undo.Note(func() { t.set(s.id, s) })
	t.set(s.id, nil)
}

// set makes s the session of an id; nil: there is none.
func (t *sessions) set(id statemachine.LeaseID, s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.byID[id]; before != nil {
		t.held.session(before, -1)
	}
	if s == nil {
		delete(t.byID, id)
		return
	}
	t.byID[id] = s
	t.held.session(s, 1)
}

// attach notes the epoch and the stream that a session is attached with.
func (t *sessions) attach(s *session, epoch, stream uint64) {
	wasEpoch, wasStream := s.epoch, s.stream
	t.undo.Note(func() { t.move(s, wasEpoch, wasStream) })
	t.move(s, epoch, stream)
}

func (t *sessions) move(s *session, epoch, stream uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held.stream(s, -1)
	s.epoch, s.stream = epoch, stream
	t.held.stream(s, 1)
}

func (s *session) row() []byte {
	dst := make([]byte, 0, 3*binary.MaxVarintLen64+len(s.identity))
	for _, v := range [...]uint64{s.created, s.epoch, s.stream} {
		dst = binary.AppendUvarint(dst, v)
	}
	return append(dst, s.identity...)
}

// load adds the row of a session.
func (t *sessions) load(id statemachine.LeaseID, row []byte) error {
	s := &session{id: id}
	rest := row
	for _, field := range [...]*uint64{&s.created, &s.epoch, &s.stream} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return fmt.Errorf("%w: session %d", mvcc.ErrCorrupt, id)
		}
		*field, rest = v, rest[n:]
	}
	s.identity = bytes.Clone(rest)
	t.set(id, s)
	return nil
}

// loadOutcomes adds a row of outcomes of a session, which is there. Rows come in key order, then loaded.
func (t *sessions) loadOutcomes(key, value []byte) error {
	id, index, ordinal, ok := mvcc.ParseOutcomeKey(key)
	s := t.byID[id]
	if !ok || s == nil {
		return fmt.Errorf("%w: outcomes of session %d, which is not there", mvcc.ErrCorrupt, id)
	}
	if err := s.outcomes.load(&outcomeRow{index: index, ordinal: ordinal}, value); err != nil {
		return fmt.Errorf("session %d: %w", id, err)
	}
	return nil
}

// loaded forgets, now that all rows are read, what is acknowledged.
func (t *sessions) loaded() {
	for _, s := range t.byID {
		s.outcomes.acknowledge(s.outcomes.acknowledged)
	}
}

// get returns a copy of what readers may see of a session.
func (t *sessions) get(id statemachine.LeaseID) (statemachine.SessionInfo, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.byID[id]
	if s == nil {
		return statemachine.SessionInfo{}, false
	}
	return statemachine.SessionInfo{
		LeaseInfo: statemachine.LeaseInfo{ID: s.id}, Created: s.created, Epoch: s.epoch, Stream: s.stream,
		Identity: s.identity,
	}, true
}

// after returns the ids greater than id, in order.
func (t *sessions) after(id statemachine.LeaseID) []statemachine.LeaseID {
	t.mu.RLock()
	var ids []statemachine.LeaseID
	for one := range t.byID {
		if one > id {
			ids = append(ids, one)
		}
	}
	t.mu.RUnlock()
	slices.Sort(ids)
	return ids
}

// Session describes a session, without the number of its keys. It sees what is applied, at once.
func (m *Machine) Session(id statemachine.LeaseID) (statemachine.SessionInfo, bool) {
	table, leases := m.sessionTable()
	if table == nil {
		return statemachine.SessionInfo{}, false
	}
	info, ok := table.get(id)
	if !ok {
		return statemachine.SessionInfo{}, false
	}
	l, ok := leases.Get(id)
	if !ok || l.Created != info.Created { // it ended meanwhile
		return statemachine.SessionInfo{}, false
	}
	info.LeaseInfo = leaseInfo(l)
	return info, true
}

// Sessions describes up to limit sessions with an id greater than after, in the order of their ids, without the number
// of their keys. Each call sorts the ids of all that follow: a page of 100,000 sessions takes some ten milliseconds.
func (m *Machine) Sessions(after statemachine.LeaseID, limit int) []statemachine.SessionInfo {
	table, _ := m.sessionTable()
	if table == nil {
		return nil
	}
	var infos []statemachine.SessionInfo
	for _, id := range table.after(after) {
		if len(infos) >= limit {
			break
		}
		if info, ok := m.Session(id); ok {
			infos = append(infos, info)
		}
	}
	return infos
}

// Attached reports whether the session exists and the stream is the one it was attached to last.
func (m *Machine) Attached(stream uint64, id statemachine.LeaseID, created uint64) bool {
	table, _ := m.sessionTable()
	if table == nil {
		return false
	}
	info, ok := table.get(id)
	return ok && info.Created == created && info.Stream == stream
}
