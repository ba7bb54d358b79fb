package raftv1

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind says what a command does and how its body is encoded. Values are appended, never reordered.
type Kind byte

// The kinds of commands, with the message of their body.
const (
	KindPut           Kind = 1  // etcdserverpb.PutRequest
	KindDeleteRange   Kind = 2  // etcdserverpb.DeleteRangeRequest
	KindTxn           Kind = 3  // etcdserverpb.TxnRequest
	KindCompact       Kind = 4  // etcdserverpb.CompactionRequest
	KindLeaseGrant    Kind = 5  // LeaseGrant
	KindLeaseRevoke   Kind = 6  // LeaseRevoke
	KindLeaseRenew    Kind = 7  // LeaseRenew
	KindTick          Kind = 8  // Tick
	KindAlarm         Kind = 9  // etcdserverpb.AlarmRequest
	KindMemberPut     Kind = 10 // MemberPut
	KindMemberRemove  Kind = 11 // MemberRemove
	KindStateHash     Kind = 12 // StateHash
	KindCall          Kind = 13 // Call
	KindSessionOpen   Kind = 14 // SessionOpen
	KindSessionAttach Kind = 15 // SessionAttach
	KindSessionEnd    Kind = 16 // SessionEnd
	KindStreamRenew   Kind = 17 // StreamRenew
	KindRequests      Kind = 18 // Requests
)

// Command is one request in an entry. Body is the protobuf encoding of the message that Kind names.
type Command struct {
	Kind Kind
	Body []byte
}

// Entry is what one Raft log entry carries: commands that were coalesced by one member, each with its own result.
//
//	version=1 | uvarint member | uvarint boot | uvarint start | uvarint number | uvarint settled | uvarint n | n × (kind | uvarint len | body)
//
// (Member, Boot, Start, Number) identifies the entry: a member may propose the same entry again until it knows the result,
// and the state machine executes it once.
type Entry struct {
	Member uint64 // the proposer's member id
	Boot   uint64 // the proposer's boot counter: grows with each start of the member's process
	Start  uint64 // drawn by the proposer at that start: a copy of its data directory may count the same boot
	Number uint64 // from 1, one sequence for each start
	// Settled says that the proposer waits for no entry with Number <= Settled any more.
	Settled  uint64
	Commands []Command
}

const entryVersion = 1

// ErrMalformed is wrapped by each error of DecodeEntry.
var ErrMalformed = errors.New("malformed log entry")

// AppendEntry appends the encoding of e to dst and returns the extended slice.
func AppendEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, entryVersion)
	for _, v := range [...]uint64{e.Member, e.Boot, e.Start, e.Number, e.Settled, uint64(len(e.Commands))} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, c := range e.Commands {
		dst = append(dst, byte(c.Kind))
		dst = binary.AppendUvarint(dst, uint64(len(c.Body)))
		dst = append(dst, c.Body...)
	}
	return dst
}

// DecodeEntry parses what AppendEntry wrote. The bodies alias data. Errors wrap ErrMalformed.
func DecodeEntry(data []byte) (*Entry, error) {
	if len(data) == 0 || data[0] != entryVersion {
		return nil, fmt.Errorf("%w: unknown version", ErrMalformed)
	}
	rest := data[1:]
	e := &Entry{}
	var n uint64
	for _, field := range [...]*uint64{&e.Member, &e.Boot, &e.Start, &e.Number, &e.Settled, &n} {
		v, size := binary.Uvarint(rest)
		if size <= 0 {
			return nil, fmt.Errorf("%w: header cut short", ErrMalformed)
		}
		*field, rest = v, rest[size:]
	}
	if n > uint64(len(rest))/2 { // a command takes two bytes at least
		return nil, fmt.Errorf("%w: %d commands in %d bytes", ErrMalformed, n, len(rest))
	}
	e.Commands = make([]Command, n)
	for i := range e.Commands {
		if len(rest) == 0 {
			return nil, fmt.Errorf("%w: command %d of %d is missing", ErrMalformed, i+1, n)
		}
		kind := Kind(rest[0])
		length, size := binary.Uvarint(rest[1:])
		if size <= 0 || length > uint64(len(rest)-1-size) {
			return nil, fmt.Errorf("%w: command %d of %d cut short", ErrMalformed, i+1, n)
		}
		body := rest[1+size : 1+size+int(length) : 1+size+int(length)]
		e.Commands[i] = Command{Kind: kind, Body: body}
		rest = rest[1+size+int(length):]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last command", ErrMalformed, len(rest))
	}
	return e, nil
}
