package raftv1

import (
	"encoding/binary"
	"fmt"
)

// Principal is who asked for a command. The zero Principal is a client that has not said who he is.
type Principal struct {
	// User is the name of a user, of at most MaxUser bytes.
	User string
	// AuthRevision is the revision of the users and permissions by which the user was let in.
	AuthRevision uint64
	// Member: a member asked for the cluster's sake, and no client: log time, rows of members, alarms of its disk.
	Member bool
}

// MaxUser is the longest name of a user, in bytes.
const MaxUser = 1 << 10

// hasPrincipal is set in the byte of a command's kind if its principal follows. That of who has not said who he is
// takes no byte.
const hasPrincipal = 0x80

// append appends the encoding: uvarint auth revision * 2, + 1 for a member | uvarint length | user.
func (p *Principal) append(dst []byte) []byte {
	flags := uint64(0)
	if p.Member {
		flags = 1
	}
	dst = binary.AppendUvarint(dst, p.AuthRevision<<1|flags)
	dst = binary.AppendUvarint(dst, uint64(len(p.User)))
	return append(dst, p.User...)
}

// decodePrincipal returns what append wrote, and the rest. Errors wrap ErrMalformed.
func decodePrincipal(data []byte) (p Principal, rest []byte, err error) {
	revision, n := binary.Uvarint(data)
	if n <= 0 {
		return p, nil, fmt.Errorf("%w: a principal cut short", ErrMalformed)
	}
	data = data[n:]
	length, n := binary.Uvarint(data)
	if n <= 0 || length > MaxUser || length > uint64(len(data)-n) {
		return p, nil, fmt.Errorf("%w: a principal with a name of %d bytes", ErrMalformed, length)
	}
	name := data[n : n+int(length)]
	return Principal{
		User: string(name), AuthRevision: revision >> 1, Member: revision&1 == 1,
	}, data[n+int(length):], nil
}
