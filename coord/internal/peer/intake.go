package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/guard"
)

// The form in which Dragonboat streams a snapshot of a state machine that keeps its state on disk: a header, the
// content in blocks of blockSize with a checksum of four bytes each, and a tail.
const (
	chunkHeader = 1024
	blockSize   = 2 << 20
	blockSum    = 4
	streamTail  = 16
	// maxChunk bounds the payload of a frame that carries a chunk: a block, and a list of members in each.
	maxChunk = 8 << 20
	// streamVersion is Dragonboat's V2, sessionTable the size of its table of client sessions, which is empty here.
	streamVersion = 2
	sessionTable  = 4096
)

// snapshotName is the name Dragonboat gives the file of a snapshot.
func snapshotName(index uint64) string { return fmt.Sprintf("snapshot-%016X.gbsnap", index) }

// intake is one snapshot on its way in. Its chunks are spooled to disk by Dragonboat, which takes the snapshot with the
// last of them; before that its content has been read through as the state machine will read it, since a snapshot that
// the state machine then refuses ends this member at each start. What does not get so far is removed with its
// connection.
type intake struct {
	t     *Transport
	group *Group
	first pb.Chunk
	next  uint64

	content *io.PipeWriter
	// checked receives what became of the content, once.
	checked chan error

	// mu is held while a chunk is taken: another connection may end this one's snapshot.
	mu   sync.Mutex
	over bool
}

// source is where a snapshot comes from: a member sends one of each group at a time.
type source struct{ member, shard uint64 }

func (s *intake) source() source { return source{s.first.From, s.first.ShardID} }

// takeChunk takes one chunk; s is the intake of the connection, nil before the first.
func (t *Transport) takeChunk(s *intake, from uint64, payload []byte) (*intake, error) {
	var c pb.Chunk
	if err := unmarshal(&c, payload); err != nil {
		return s, reject(ReasonFrame, "a snapshot chunk does not decode: %v", err)
	}
	if err := t.validator.checkChunk(&c, from); err != nil {
		return s, err
	}
	if s == nil {
		group := t.opt.Groups(c.ShardID)
		if group == nil {
			return nil, reject(ReasonAddress, "a snapshot of shard %d, of which this member has no replica", c.ShardID)
		}
		if err := t.admitFirst(group, &c); err != nil {
			return nil, err
		}
		s = t.newIntake(group, c)
	}
	return s, s.take(c)
}

// checkChunk checks what every chunk must be by itself.
func (v *validator) checkChunk(c *pb.Chunk, from uint64) error {
	switch {
	case c.From != from || c.ReplicaID != v.self:
		return reject(ReasonAddress, "a snapshot chunk from %x to %x", c.From, c.ReplicaID)
	case c.DeploymentId != v.deployment || c.BinVer != raftio.TransportBinVersion:
		return reject(ReasonAddress, "a snapshot chunk of deployment %d, version %d", c.DeploymentId, c.BinVer)
	case c.HasFileInfo || c.Witness:
		return reject(ReasonSnapshot, "a snapshot chunk of a kind not in use")
	case c.FileChunkId != c.ChunkId || c.ChunkCount != c.FileChunkCount ||
		c.ChunkCount != 0 && c.ChunkCount != pb.LastChunkCount:
		return reject(ReasonSnapshot, "chunk %d of %d is chunk %d of %d of its file", c.ChunkId, c.ChunkCount,
			c.FileChunkId, c.FileChunkCount)
	case c.Index == 0 || c.Index > maxIndex || c.OnDiskIndex > c.Index || c.Term == 0 || c.Term > maxIndex:
		return reject(ReasonSnapshot, "a snapshot of index %d, on disk %d, term %d", c.Index, c.OnDiskIndex, c.Term)
	case c.Filepath != snapshotName(c.Index):
		return reject(ReasonSnapshot, "a snapshot of index %d in file %.60q", c.Index, c.Filepath)
	case len(c.Data) > chunkHeader+blockSize+blockSum+streamTail:
		return reject(ReasonSnapshot, "a snapshot chunk of %d bytes", len(c.Data))
	}
	return nil
}

// admitFirst judges the chunk that a snapshot begins with.
func (t *Transport) admitFirst(group *Group, c *pb.Chunk) error {
	if c.ChunkId != 0 {
		return reject(ReasonSnapshot, "a snapshot begins with chunk %d", c.ChunkId)
	}
	if err := checkMembers(c, t.opt.Self.Member); err != nil {
		return err
	}
	if err := checkStreamHeader(c.Data); err != nil {
		return err
	}
	if group.content.AdmitMembers != nil {
		if err := group.content.AdmitMembers(c.Index, c.Membership); err != nil {
			return reject(ReasonChange, "a snapshot of index %d: %v", c.Index, err)
		}
	}
	return group.history.admitSnapshot(c)
}

// checkMembers checks the membership that a snapshot brings: this member takes part in it, and nobody is two things.
func checkMembers(c *pb.Chunk, self uint64) error {
	m := &c.Membership
	bad := func(format string, args ...any) error {
		return reject(ReasonChange, "a snapshot of index %d: %s", c.Index, fmt.Sprintf(format, args...))
	}
	switch {
	case m.ConfigChangeId > c.Index:
		return bad("its members changed at index %d", m.ConfigChangeId)
	case len(m.Witnesses) > 0:
		return bad("it has witnesses")
	case m.Addresses[self] == "" && m.NonVotings[self] == "":
		return bad("member %x has no part in it", self)
	}
	for _, list := range []map[uint64]string{m.Addresses, m.NonVotings} {
		for id, target := range list {
			if id == 0 || target != Target(id) || m.Removed[id] || m.Addresses[id] != "" && m.NonVotings[id] != "" {
				return bad("member %x at %.60q", id, target)
			}
		}
	}
	return nil
}

// checkStreamHeader checks the header in a first chunk, which Dragonboat decodes without regard for errors.
func checkStreamHeader(data []byte) error {
	if len(data) < chunkHeader {
		return reject(ReasonSnapshot, "a first chunk of %d bytes", len(data))
	}
	size := binary.LittleEndian.Uint64(data)
	if size > chunkHeader-8-4 {
		return reject(ReasonSnapshot, "a snapshot header of %d bytes", size)
	}
	var h pb.SnapshotHeader
	if err := unmarshal(&h, data[8:8+size]); err != nil {
		return reject(ReasonSnapshot, "a snapshot header does not decode: %v", err)
	}
	if h.Version != streamVersion || h.ChecksumType != pb.CRC32IEEE || h.CompressionType != pb.NoCompression ||
		h.SessionSize != 0 {
		return reject(ReasonSnapshot, "a snapshot of version %d, checksum %d, compression %d, %d bytes of sessions",
			h.Version, h.ChecksumType, h.CompressionType, h.SessionSize)
	}
	return nil
}

// newIntake begins to take a snapshot, in place of one of the group that the same peer began before.
func (t *Transport) newIntake(group *Group, first pb.Chunk) *intake {
	r, w := io.Pipe()
	s := &intake{t: t, group: group, first: first, content: w, checked: make(chan error, 1)}
	s.first.Data = nil
	t.mu.Lock()
	before := t.mu.intakes[s.source()]
	t.mu.intakes[s.source()] = s
	t.mu.Unlock()
	if before != nil {
		before.end(errors.New("another snapshot came"))
	}
	go func() {
		defer guard.Recover(t.opt.Logger, "peer snapshot") // check makes its own panics a rejection
		err := s.check(newBlocks(r))
		r.CloseWithError(err)
		s.checked <- err
	}()
	return s
}

// errReadThrough ends the content that was found to be good.
var errReadThrough = errors.New("the snapshot has ended")

// check reads the content through.
func (s *intake) check(r io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = reject(ReasonSnapshot, "a snapshot's content: %v", p)
		}
	}()
	var sessions [16]byte
	if _, err := io.ReadFull(r, sessions[:]); err != nil {
		return reject(ReasonSnapshot, "a snapshot without content: %v", err)
	}
	if binary.LittleEndian.Uint64(sessions[:]) != sessionTable || binary.LittleEndian.Uint64(sessions[8:]) != 0 {
		return reject(ReasonSnapshot, "a snapshot with client sessions %x", sessions)
	}
	if s.group.content.CheckSnapshot != nil {
		applied, err := s.group.content.CheckSnapshot(r)
		if err != nil {
			return reject(ReasonSnapshot, "a snapshot's content: %v", err)
		}
		if applied != s.first.OnDiskIndex {
			return reject(ReasonSnapshot, "a snapshot of index %d on disk has the state of index %d",
				s.first.OnDiskIndex, applied)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n > 0 {
			return reject(ReasonSnapshot, "a snapshot with %d bytes behind its end: %v", n, err)
		}
		return errReadThrough
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return reject(ReasonSnapshot, "a snapshot's content: %v", err)
	}
	return errReadThrough
}

// take passes one chunk on.
func (s *intake) take(c pb.Chunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := &s.first
	if s.over {
		return fmt.Errorf("the snapshot of index %d has ended", first.Index)
	}
	if c.ChunkId != s.next || c.Index != first.Index || c.Term != first.Term || c.OnDiskIndex != first.OnDiskIndex ||
		c.ShardID != first.ShardID {
		return reject(ReasonSnapshot, "chunk %d of a snapshot of index %d in the place of chunk %d of index %d",
			c.ChunkId, c.Index, s.next, first.Index)
	}
	if err := s.t.opt.Room(); err != nil {
		return fmt.Errorf("no room for the snapshot of index %d: %w", first.Index, err)
	}
	data := c.Data
	if c.ChunkId == 0 {
		data = data[chunkHeader:]
	}
	if _, err := s.content.Write(data); err != nil {
		return err // the reader's, which is a rejection
	}
	if c.IsLastChunk() {
		s.content.Close()
		err := <-s.checked
		s.checked <- err
		if err != errReadThrough {
			return err
		}
	}
	s.next++
	if !s.t.chunks(c) {
		return errors.New("snapshot chunk was not accepted")
	}
	if c.IsLastChunk() {
		s.forget()
	}
	return nil
}

// forget is called with mu held, when the snapshot is over.
func (s *intake) forget() {
	s.over = true
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.t.mu.intakes[s.source()] == s {
		delete(s.t.mu.intakes, s.source())
	}
}

// end gives up a snapshot that did not come to its end, and removes what there is of it. Dragonboat keeps a part of a
// snapshot for a quarter of an hour, unless a last chunk comes that makes it wrong.
func (s *intake) end(why error) {
	s.content.CloseWithError(why) // a chunk that is being taken ends
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.forget()
	<-s.checked
	c := s.first
	c.ChunkCount, c.FileChunkCount = pb.LastChunkCount, pb.LastChunkCount
	c.Data = make([]byte, streamTail)
	for _, id := range []uint64{s.next, s.next + 1} { // the last one taken may have been refused
		if id > 0 {
			c.ChunkId, c.FileChunkId = id, id
			s.t.chunks(c)
		}
	}
}

// blocks is the content of a stream: what is in its blocks, without checksums and tail, which Dragonboat verifies.
type blocks struct {
	r    io.Reader
	buf  []byte // at most a block with its checksum and a tail
	have []byte // what is left of the block being read
	rest []byte // what follows it
	err  error
}

func newBlocks(r io.Reader) *blocks {
	return &blocks{r: r}
}

// Read implements io.Reader.
func (b *blocks) Read(p []byte) (int, error) {
	for len(b.have) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.have)
	b.have = b.have[n:]
	return n, nil
}

// fill reads the next block. As long as more follows than a tail, a block is a whole one.
func (b *blocks) fill() {
	const whole = blockSize + blockSum
	if b.buf == nil {
		b.buf = make([]byte, whole+streamTail)
	}
	n := copy(b.buf, b.rest)
	m, err := io.ReadFull(b.r, b.buf[n:])
	n += m
	switch {
	case err == nil:
		b.have, b.rest = b.buf[:blockSize], b.buf[whole:]
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		b.have, b.err = b.buf[:max(0, n-streamTail-blockSum)], io.EOF
	default:
		b.err = err
	}
}
