package machine

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// A snapshot stream is all rows of the store at one point of the log, in key order:
//
//	"coordsn1" | len:4 crc:4 SnapshotHeader | block … | end
//	block: len:4 crc:4 (uvarint klen, key, uvarint vlen, value) …     len > 0
//	end:   00000000 | rows:8 | crc:4 of rows
//
// Integers are big endian, crc is CRC-32C of what follows it (len bytes). A stream that is cut off anywhere, or
// changed, is refused as a whole: the receiver builds a new database beside the current one and takes it only when it
// is complete and durable.

const (
	snapshotMagic  = "coordsn1"
	snapshotFormat = 1
	snapshotBlock  = 256 << 10 // a block is closed at this size
	maxBlock       = 64 << 20  // above the largest row by far
)

// ErrSnapshot is wrapped by errors about a snapshot stream that is not whole or not ours.
var ErrSnapshot = errors.New("bad snapshot stream")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PrepareSnapshot returns the point of the log that SaveSnapshot will stream.
func (m *Machine) PrepareSnapshot() (any, error) { return m.View() }

// SaveSnapshot streams the state that PrepareSnapshot returned.
func (m *Machine) SaveSnapshot(prepared any, w io.Writer, stop <-chan struct{}) error {
	view := prepared.(*View)
	defer view.Close()
	err := m.writeSnapshot(view, w, stop)
	if errors.Is(err, errStopped) {
		return sm.ErrSnapshotStopped
	}
	return err
}

var errStopped = errors.New("stopped")

// WriteBackup writes the whole state, as published now, in the form of a snapshot stream.
func (m *Machine) WriteBackup(ctx context.Context, w io.Writer) error {
	view, err := m.View()
	if err != nil {
		return err
	}
	defer view.Close()
	if err := m.writeSnapshot(view, w, ctx.Done()); !errors.Is(err, errStopped) {
		return err
	}
	return ctx.Err()
}

func (m *Machine) writeSnapshot(view *View, w io.Writer, stop <-chan struct{}) error {
	out := bufio.NewWriterSize(w, snapshotBlock)
	header, err := proto.Marshal(&raftv1.SnapshotHeader{
		Format: snapshotFormat, Shard: m.opts.Shard, AppliedIndex: view.AppliedIndex(), Revision: view.Revision(),
		Version: uint32(view.version),
	})
	if err != nil {
		return err
	}
	if _, err := out.WriteString(snapshotMagic); err != nil {
		return err
	}
	if err := writeBlock(out, header); err != nil {
		return err
	}
	var rows uint64
	var block []byte
	err = mvcc.ScanRows(view.rows(), []byte{0}, []byte{0xff}, func(k, v []byte) (bool, error) {
		block = append(binary.AppendUvarint(block, uint64(len(k))), k...)
		block = append(binary.AppendUvarint(block, uint64(len(v))), v...)
		rows++
		if len(block) < snapshotBlock {
			return true, nil
		}
		select {
		case <-stop:
			return false, errStopped
		default:
		}
		err := writeBlock(out, block)
		block = block[:0]
		return true, err
	})
	if err == nil && len(block) > 0 {
		err = writeBlock(out, block)
	}
	if err != nil {
		return err
	}
	end := binary.BigEndian.AppendUint64(make([]byte, 4, 16), rows)
	end = binary.BigEndian.AppendUint32(end, crc32.Checksum(end[4:], castagnoli))
	if _, err := out.Write(end); err != nil {
		return err
	}
	return out.Flush()
}

func writeBlock(w io.Writer, block []byte) error {
	head := binary.BigEndian.AppendUint32(make([]byte, 0, 8), uint32(len(block)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(block, castagnoli))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(block)
	return err
}

// snapshotReader reads a snapshot stream.
type snapshotReader struct {
	in     *bufio.Reader
	header raftv1.SnapshotHeader
	rows   uint64
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", ErrSnapshot)
	}
	return err
}

// openSnapshot reads up to the first block of rows.
func openSnapshot(r io.Reader) (*snapshotReader, error) {
	s := &snapshotReader{in: bufio.NewReaderSize(r, snapshotBlock)}
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(s.in, magic); err != nil {
		return nil, cutShort(err)
	}
	if string(magic) != snapshotMagic {
		return nil, fmt.Errorf("%w: it begins with %q", ErrSnapshot, magic)
	}
	header, err := s.block()
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(header, &s.header); err != nil {
		return nil, fmt.Errorf("%w: header: %v", ErrSnapshot, err)
	}
	if s.header.Format != snapshotFormat {
		return nil, fmt.Errorf("%w: format %d, this version reads %d", ErrSnapshot, s.header.Format, snapshotFormat)
	}
	if err := checkRelease(raftv1.Version(s.header.Version)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

// block returns the next block, nil at the end mark.
func (s *snapshotReader) block() ([]byte, error) {
	var word [4]byte
	if _, err := io.ReadFull(s.in, word[:]); err != nil {
		return nil, cutShort(err)
	}
	n := binary.BigEndian.Uint32(word[:])
	if n == 0 {
		return nil, nil
	}
	if n > maxBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrSnapshot, n)
	}
	if _, err := io.ReadFull(s.in, word[:]); err != nil {
		return nil, cutShort(err)
	}
	// Grow as data arrives: the length is not to be believed before its bytes are there.
	block, err := io.ReadAll(io.LimitReader(s.in, int64(n)))
	if err != nil {
		return nil, err
	}
	if uint32(len(block)) != n {
		return nil, cutShort(io.EOF)
	}
	if crc32.Checksum(block, castagnoli) != binary.BigEndian.Uint32(word[:]) {
		return nil, fmt.Errorf("%w: checksum mismatch", ErrSnapshot)
	}
	return block, nil
}

// next calls fn on the rows of the next block and reports whether there was one. The slices are fn's to keep.
func (s *snapshotReader) next(fn func(key, value []byte) error) (bool, error) {
	block, err := s.block()
	if err != nil {
		return false, err
	}
	if block == nil {
		return false, s.end()
	}
	for len(block) > 0 {
		var key, value []byte
		for _, field := range [...]*[]byte{&key, &value} {
			n, size := binary.Uvarint(block)
			if size <= 0 || n > uint64(len(block)-size) {
				return false, fmt.Errorf("%w: malformed row", ErrSnapshot)
			}
			*field, block = block[size:size+int(n)], block[size+int(n):]
		}
		if len(key) == 0 || key[0] == 0xff {
			return false, fmt.Errorf("%w: row key %x", ErrSnapshot, key)
		}
		s.rows++
		if err := fn(key, value); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (s *snapshotReader) end() error {
	var end [12]byte
	if _, err := io.ReadFull(s.in, end[:]); err != nil {
		return cutShort(err)
	}
	rows := binary.BigEndian.Uint64(end[:])
	if crc32.Checksum(end[:8], castagnoli) != binary.BigEndian.Uint32(end[8:]) || rows != s.rows {
		return fmt.Errorf("%w: %d rows arrived, the end says %d", ErrSnapshot, s.rows, rows)
	}
	return nil
}

// CheckSnapshot reads a snapshot stream to its end as RecoverFromSnapshot would, and returns the index of the log at
// which it was taken. It is for who received one and has not decided to take it: what RecoverFromSnapshot refuses ends
// a replica.
func CheckSnapshot(r io.Reader, shard uint64) (applied uint64, err error) {
	in, err := openSnapshot(r)
	if err != nil {
		return 0, err
	}
	if in.header.Shard != shard {
		return 0, fmt.Errorf("%w: it is of shard %d, this is shard %d", ErrSnapshot, in.header.Shard, shard)
	}
	for more := true; more; {
		if more, err = in.next(func(_, _ []byte) error { return nil }); err != nil {
			return 0, err
		}
	}
	if _, err := in.in.ReadByte(); err != io.EOF {
		return 0, fmt.Errorf("%w: it goes on behind its end", ErrSnapshot)
	}
	return in.header.AppliedIndex, nil
}

// RecoverFromSnapshot replaces the whole state. When it returns nil the new state is durable and the current one; after
// an error or a crash it is still the old one.
func (m *Machine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	in, err := openSnapshot(r)
	if err != nil {
		return err
	}
	if in.header.Shard != m.opts.Shard {
		return fmt.Errorf("%w: it is of shard %d, this is shard %d", ErrSnapshot, in.header.Shard, m.opts.Shard)
	}
	if in.header.AppliedIndex < m.index {
		return fmt.Errorf("%w: it ends at log index %d, this replica has applied %d", ErrSnapshot,
			in.header.AppliedIndex, m.index)
	}
	number := m.store.number + 1
	db, err := m.receive(in, number, stop)
	if err != nil {
		return err
	}
	if err := m.store.replace(db, number); err != nil {
		return err
	}
	return m.recovered()
}

// receive builds a database from the stream. On error nothing is left of it.
func (m *Machine) receive(in *snapshotReader, number int, stop <-chan struct{}) (*database, error) {
	dir := m.store.path(databaseName(number))
	if err := m.opts.FS.RemoveAll(dir); err != nil { // of an attempt that failed
		return nil, err
	}
	db, err := m.store.openDatabase(number)
	if err != nil {
		return nil, err
	}
	if err = m.fillDatabase(db, in, stop); err == nil {
		err = db.Flush()
	}
	if err == nil {
		err = m.store.syncDir()
	}
	if err != nil {
		db.release()
		return nil, errors.Join(err, m.opts.FS.RemoveAll(dir))
	}
	return db, nil
}

func (m *Machine) fillDatabase(db *database, in *snapshotReader, stop <-chan struct{}) error {
	for more := true; more; {
		select {
		case <-stop:
			return sm.ErrSnapshotStopped
		default:
		}
		b := db.NewBatch()
		var err error
		if more, err = in.next(func(k, v []byte) error { return b.Set(k, v, nil) }); err != nil {
			return errors.Join(err, b.Close())
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// recovered takes up the state of the database that replaced the old one.
func (m *Machine) recovered() error {
	if err := m.load(); err != nil {
		return fmt.Errorf("load the state of a received snapshot: %w", err)
	}
	m.publish()
	m.compactor.restart()
	if m.opts.Observer != nil {
		ran := m.executed.snapshotOf(m.opts.Member, m.opts.Boot, m.opts.Start)
		m.opts.Observer.Recovered(m.fill(&statemachine.Applied{MembersChanged: true, AlarmsChanged: true}), ran)
	}
	return nil
}
