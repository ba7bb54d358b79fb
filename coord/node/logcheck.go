package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrLogDamaged: the raft log has a damaged record before intact ones. From Start.
var ErrLogDamaged = errors.New("the raft log is damaged: restore it, or remove the member from the cluster, " +
	"add it again as a learner under a new ID with an empty data directory, then promote it")

// checkLogs looks through the write-ahead logs of the raft log in dir for damage.
//
// The store under the raft log takes the first record that it cannot read for the
// end, because that is how a write that a crash cut short looks. Damage in the middle
// looks the same to it, and all entries and votes behind it would be forgotten. The
// difference is what comes after: a record is begun only when those before it are on
// disk, so that behind one that was cut short no other begins.
func checkLogs(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a new member's
		}
		if err != nil || e.IsDir() || filepath.Ext(path) != ".log" || !strings.HasPrefix(filepath.Base(filepath.Dir(path)), "logdb-") {
			return err
		}
		number, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), ".log"), 10, 64)
		if err != nil {
			return nil // not one of the store's
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if damaged, next := damagedAt(b, uint32(number)); next > 0 {
			return fmt.Errorf("%s cannot be read at byte %d, but from byte %d on: %w", path, damaged, next, ErrLogDamaged)
		}
		return nil
	})
}

// The format of a log: blocks of chunks, none of which crosses the end of a block. A chunk is its checksum of everything
// behind it (4 bytes), the length of the payload (2), the type (1), the log's number (4), and the payload.
const (
	logBlock  = 32 << 10
	logHeader = 11
	// logFull to logLast are the types of chunks: all of a record, its first, a middle and its last one.
	logFull, logFirst, logLast = 5, 6, 8
)

// damagedAt returns where a log becomes unreadable and where, behind that, a record begins; 0 for next if none does.
func damagedAt(b []byte, number uint32) (damaged, next int) {
	at := 0
	for at < len(b) {
		if left := logBlock - at%logBlock; left < logHeader {
			at += left // too short for a chunk
			continue
		}
		n := chunkAt(b, at, number)
		if n == 0 {
			break
		}
		at += n
	}
	for i := at + 1; i < len(b); i++ {
		if len(b)-i >= logHeader && (b[i+6] == logFull || b[i+6] == logFirst) && chunkAt(b, i, number) > 0 {
			return at, i
		}
	}
	return at, 0
}

// chunkAt is the size of the intact chunk of this log at i, 0 if there is none.
func chunkAt(b []byte, i int, number uint32) int {
	block := b[i:min(len(b), i-i%logBlock+logBlock)]
	if len(block) < logHeader || block[6] < logFull || block[6] > logLast || binary.LittleEndian.Uint32(block[7:]) != number {
		return 0
	}
	size := logHeader + int(binary.LittleEndian.Uint16(block[4:]))
	if size > len(block) {
		return 0
	}
	sum := crc32.Checksum(block[6:size], crc32.MakeTable(crc32.Castagnoli))
	if binary.LittleEndian.Uint32(block) != (sum>>15|sum<<17)+0xa282ead8 {
		return 0
	}
	return size
}
