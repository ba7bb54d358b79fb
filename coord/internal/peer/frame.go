package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

type kind uint8

const (
	kindBatch kind = iota + 3 // 1 and 2 were the handshake's
	kindChunk
	kindEnd
	kindEndAck
	kindPing
	kindPong
)

const (
	headerSize = 9
	// pingSize is that of the number in a ping, which the pong repeats.
	pingSize = 8
	// MaxFrame is the largest payload in bytes of one frame. Dragonboat sends at
	// most 64 MiB of entries in a batch, beside one message of up to that size.
	MaxFrame = 160 << 20
	// readStep bounds what a length not yet backed by bytes can make us allocate.
	readStep = 1 << 20
)

var magic = [4]byte{0xc0, 'C', 'R', 2}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrBadFrame is returned for bytes that are not a frame: an unknown kind, a
// length over the limit, or a checksum that does not match.
var ErrBadFrame = errors.New("bad frame")

// putHeader writes the header of a frame that carries payload to dst[:headerSize].
func putHeader(dst []byte, k kind, payload []byte) {
	dst[0] = byte(k)
	binary.LittleEndian.PutUint32(dst[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[5:], checksum(dst[:5], payload))
}

func checksum(prefix, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(prefix, castagnoli), castagnoli, payload)
}

// appendFrame appends a whole frame to dst.
func appendFrame(dst []byte, k kind, payload []byte) []byte {
	var h [headerSize]byte
	putHeader(h[:], k, payload)
	return append(append(dst, h[:]...), payload...)
}

// readFrame reads one frame of at most limit payload bytes. The payload is read
// into buf when it fits; the caller passes the returned slice back as buf for
// the next call once it no longer needs the payload.
func readFrame(r io.Reader, buf []byte, limit int) (kind, []byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, buf, err
	}
	k, size := kind(h[0]), int(binary.LittleEndian.Uint32(h[1:]))
	if k < kindBatch || k > kindPong {
		return 0, buf, fmt.Errorf("%w: kind %d", ErrBadFrame, k)
	}
	if size > limit {
		return 0, buf, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrBadFrame, size, limit)
	}
	buf, err := readPayload(r, buf[:0], size)
	if err != nil {
		return 0, buf, err
	}
	if binary.LittleEndian.Uint32(h[5:]) != checksum(h[:5], buf) {
		return 0, buf, fmt.Errorf("%w: checksum mismatch", ErrBadFrame)
	}
	return k, buf, nil
}

// readPayload appends size bytes from r to buf, growing it step by step.
func readPayload(r io.Reader, buf []byte, size int) ([]byte, error) {
	if size <= cap(buf) {
		buf = buf[:size]
		_, err := io.ReadFull(r, buf)
		return buf, eofIsUnexpected(err)
	}
	for len(buf) < size {
		n := min(readStep, size-len(buf))
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			return buf, eofIsUnexpected(err)
		}
	}
	return buf, nil
}

// eofIsUnexpected: an end of stream inside a frame is a broken frame.
func eofIsUnexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
