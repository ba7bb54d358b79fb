package peer

import (
	"errors"
	"fmt"
	"os"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// endTimeout is how long the sender of a snapshot waits for the receiver to say
// that it took all chunks: with the last one it syncs the whole file.
const endTimeout = 2 * time.Minute

// snapshotPatience is how many times longer than raft's a snapshot's connection
// may stand still: the receiver takes chunks as fast as its disk does.
const snapshotPatience = 10

// snapshotConn sends the chunks of one snapshot.
type snapshotConn struct {
	t    *Transport
	w    *wire
	link *link
	stop func() bool
	// leave closes w and takes it from the connections of the receiver's start.
	leave func()
	buf   []byte
}

// SendChunk implements raftio.ISnapshotConnection. After the last chunk it waits
// until the receiver took them all.
//
// Dragonboat reports the snapshot to raft as sent once SendChunk returns, and ten
// ticks later the leader goes on with the entry after it. A receiver that still
// has chunks to read turns that down, and the leader sends everything once more.
func (c *snapshotConn) SendChunk(chunk pb.Chunk) error {
	if size := chunk.Size(); cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	payload := pb.MustMarshalTo(&chunk, c.buf[:cap(c.buf)])
	if err := c.w.send(kindChunk, payload); err != nil {
		return err
	}
	c.link.stats.sentBytes.Add(uint64(headerSize + len(payload)))
	if chunk.IsLastChunk() {
		return c.end()
	}
	return nil
}

// end waits for the receiver to take what was sent.
func (c *snapshotConn) end() error {
	if err := c.w.send(kindEnd, nil); err != nil {
		return err
	}
	if err := c.w.SetReadDeadline(time.Now().Add(endTimeout)); err != nil {
		return err
	}
	k, _, err := readFrame(c.w, nil, 0)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil // it may take the snapshot yet: the leader shall ask before it sends another
	case err != nil:
		return fmt.Errorf("snapshot not taken: %w", err)
	case k != kindEndAck:
		return fmt.Errorf("%w: kind %d after the end of a snapshot", ErrBadFrame, k)
	}
	return nil
}

// Close ends the connection.
func (c *snapshotConn) Close() {
	c.stop()
	c.leave()
}
