package logstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// Pebble's log files consist of blocks, and blocks of chunks that start with
// checksum (4) | length (2) | type (1), little endian; those of a write-ahead log
// go on with log number (4) | synced offset (8), which says how much of the file
// was durable before the chunk was written. See package record of Pebble.
const (
	blockSize      = 32 << 10
	manifestHeader = 7
	walHeader      = manifestHeader + 4 + 8
	// The types of chunks are four in a row: full, first, middle, last.
	manifestType  = 1
	manifestFirst = 2
	walType       = 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkFiles looks for damage that Pebble takes for a torn end: it stops reading
// at the first bad chunk, and looks for a reason not to only in the blocks behind
// that chunk's, and in a manifest not at all. A manifest that is not in use is
// what a crash left of one that was about to be, in no order.
func checkFiles(fs vfs.FS, dir, manifest string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, file := range names {
		var f chunkFile
		if num, _, ok := wal.ParseLogFilename(file); ok {
			f.wal, f.num = true, uint32(num)
		} else if file != manifest {
			continue
		}
		if f.data, err = readAll(fs, fs.PathJoin(dir, file)); err != nil {
			return err
		}
		if at, proof := f.damage(); proof > 0 {
			return fmt.Errorf("%w: file %s has a bad chunk at byte %d, which was good when byte %d was written",
				ErrDamaged, file, at, proof)
		}
	}
	return nil
}

func readAll(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// chunkFile is a manifest or a write-ahead log of a number. The rest of a
// recycled log has chunks of other numbers.
type chunkFile struct {
	data []byte
	wal  bool
	num  uint32
}

// damage returns where the good chunks at the begin of the file end, and, if they
// should not end there, the offset of a chunk behind that proves it.
func (f chunkFile) damage() (at, proof int) {
	for at < len(f.data) {
		if next := f.skipPadding(at); next > at {
			at = next
			continue
		}
		size, _ := f.chunk(at)
		if size == 0 {
			break
		}
		at += size
	}
	for p := at + 1; p < len(f.data); p++ {
		if size, synced := f.chunk(p); size > 0 && synced > uint64(at) {
			return at, p
		}
	}
	return at, 0
}

// chunk returns the size of the chunk at an offset, 0 if there is no good one,
// and how much of the file was durable before it was written. In a manifest that
// is all before the record, for Pebble syncs each; a chunk that goes on with a
// record says nothing.
func (f chunkFile) chunk(at int) (size int, synced uint64) {
	header, kind := manifestHeader, byte(manifestType)
	if f.wal {
		header, kind = walHeader, walType
	}
	b := f.data[at:min(len(f.data), at+blockSize-at%blockSize)]
	if len(b) < header || b[6] < kind || b[6] >= kind+4 {
		return 0, 0
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if b[6] <= manifestFirst {
		synced = uint64(at)
	}
	if f.wal {
		if binary.LittleEndian.Uint32(b[7:]) != f.num {
			return 0, 0
		}
		synced = binary.LittleEndian.Uint64(b[11:])
	}
	if size > len(b) || binary.LittleEndian.Uint32(b) != mask(crc32.Checksum(b[6:size], castagnoli)) {
		return 0, 0
	}
	return size, synced
}

// mask is how LevelDB stores a checksum.
func mask(crc uint32) uint32 { return (crc>>15 | crc<<17) + 0xa282ead8 }

// skipPadding returns the begin of the next block if a block's rest is zeros in
// which no chunk has room.
func (f chunkFile) skipPadding(at int) int {
	room := blockSize - at%blockSize
	header := manifestHeader
	if f.wal {
		header = walHeader
	}
	if room >= header || at+room > len(f.data) {
		return at
	}
	for _, b := range f.data[at : at+room] {
		if b != 0 {
			return at
		}
	}
	return at + room
}
