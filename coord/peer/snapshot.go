package peer

import (
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// endTimeout is how long the sender of a snapshot waits for the receiver to say
// that it took all chunks.
const endTimeout = 10 * time.Second

// snapshotPatience is how many times longer than raft's a snapshot's connection
// may stand still: the receiver takes chunks as fast as its disk does.
const snapshotPatience = 10

// snapshotConn sends the chunks of one snapshot.
type snapshotConn struct {
	t    *Transport
	w    *wire
	link *link
	stop func() bool
	buf  []byte
}

// SendChunk implements raftio.ISnapshotConnection.
func (c *snapshotConn) SendChunk(chunk pb.Chunk) error {
	if size := chunk.Size(); cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	payload := pb.MustMarshalTo(&chunk, c.buf[:cap(c.buf)])
	if err := c.w.send(kindChunk, payload); err != nil {
		return err
	}
	c.link.stats.sentBytes.Add(uint64(headerSize + len(payload)))
	return nil
}

// Close ends the snapshot: it waits until the receiver took what was sent, so
// that closing the connection cannot cut off the last chunk.
func (c *snapshotConn) Close() {
	defer c.stop()
	defer c.w.Close()
	if err := c.w.send(kindEnd, nil); err != nil {
		return
	}
	if err := c.w.SetReadDeadline(time.Now().Add(endTimeout)); err != nil {
		return
	}
	_, _, _ = readFrame(c.w, nil, 0) // whatever came, there is no more to do
}
