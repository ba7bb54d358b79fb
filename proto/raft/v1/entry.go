package raftv1

import (
	"encoding/binary"
	"errors"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/wire"
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
	KindVersionRaise  Kind = 19 // VersionRaise
	KindHistoryBegin  Kind = 20 // HistoryBegin

	lastKind = KindHistoryBegin
)

var kindNames = [...]string{
	KindPut: "Put", KindDeleteRange: "DeleteRange", KindTxn: "Txn", KindCompact: "Compact",
	KindLeaseGrant:  "LeaseGrant",
	KindLeaseRevoke: "LeaseRevoke", KindLeaseRenew: "LeaseRenew", KindTick: "Tick", KindAlarm: "Alarm",
	KindMemberPut:    "MemberPut",
	KindMemberRemove: "MemberRemove", KindStateHash: "StateHash", KindCall: "Call", KindSessionOpen: "SessionOpen",
	KindSessionAttach: "SessionAttach", KindSessionEnd: "SessionEnd", KindStreamRenew: "StreamRenew",
	KindRequests:     "Requests",
	KindVersionRaise: "VersionRaise", KindHistoryBegin: "HistoryBegin",
}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Unknown reports whether the kind is above what this release knows: to do without would make a replica differ from
// those that know it. No release has the kind 0.
func (k Kind) Unknown() bool { return k > lastKind }

// Command is one request in an entry. Body is the protobuf encoding of the message that Kind names.
type Command struct {
	Kind Kind
	Body []byte
	By   Principal
}

// Entry is what one Raft log entry carries: commands that were coalesced by one member, each with its own result.
//
//	version | uvarint member | uvarint boot | uvarint start | uvarint number | uvarint settled |
//	uvarint n | n × (kind | principal | uvarint len | body)
//
// The kind has its highest bit set if a principal stands there, see Principal.
//
// (Member, Boot, Start, Number) identifies the entry: a member may propose the same entry again until it knows the
// result, and the state machine executes it once.
type Entry struct {
	// Version is the cluster's, as the proposer knew it. It is written as MinVersion where it is 0.
	Version Version
	Member  uint64 // the proposer's member id
	Boot    uint64 // the proposer's boot counter: grows with each start of the member's process
	Start   uint64 // drawn by the proposer at that start: a copy of its data directory may count the same boot
	Number  uint64 // from 1, one sequence for each start
	// Settled says that the proposer waits for no entry with Number <= Settled any more.
	Settled  uint64
	Commands []Command
}

var (
	// ErrMalformed: these bytes are no entry of any version that this release knows. All replicas refuse them alike.
	ErrMalformed = errors.New("malformed log entry")
	// ErrUnknown: the entry's version, or the kind of a command in it, is above what this release knows. It must not be
	// applied.
	ErrUnknown = errors.New("a log entry that this release is too old for")
	// ErrEarly: the cluster's version does not have this yet.
	ErrEarly = errors.New("the cluster is too old")
)

// Check says whether an entry may go into the log, as far as its commands may: nil, or an error that wraps ErrMalformed
// or what command returns, which is CheckKind or knows more.
func (e *Entry) Check(command func(Command) error) error {
	if e.Member == 0 || e.Number == 0 || e.Settled >= e.Number {
		return fmt.Errorf("%w: of member %d, number %d, settled %d", ErrMalformed, e.Member, e.Number, e.Settled)
	}
	for _, c := range e.Commands {
		if err := command(c); err != nil {
			return err
		}
	}
	return nil
}

// CheckKind says whether this release knows the kind of a command, and those of the requests in it.
func CheckKind(c Command) error {
	switch {
	case c.Kind == 0:
		return fmt.Errorf("%w: a command of kind 0", ErrMalformed)
	case c.Kind.Unknown():
		return fmt.Errorf("%w: a command of %v", ErrUnknown, c.Kind)
	case c.Kind != KindRequests:
		return nil
	}
	for request := range requests(c.Body) {
		if k := kindOf(request); k > 0 && k <= MaxRequestKind && coordv1.Kind_name[int32(k)] == "" {
			return fmt.Errorf("%w: a request of kind %d", ErrUnknown, k)
		}
	}
	return nil
}

// ProcedureOf is the name of the procedure that a Call calls, as far as its body parses.
func ProcedureOf(c Command) string { return string(procedureOf(c.Body)) }

// procedureOf is what is in the last field of the name, which is the one that counts.
func procedureOf(call []byte) (name []byte) {
	const procedure = 1
	for f := wire.Read(call); f.Next(); {
		if f.IsBytes(procedure) {
			name = f.Bytes
		}
	}
	return name
}

// MaxRequestKind is the highest kind that a request of a session can have in any release.
const MaxRequestKind = 127

// AppendEntry appends the encoding of e to dst and returns the extended slice.
func AppendEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, byte(max(e.Version, MinVersion)))
	for _, v := range [...]uint64{e.Member, e.Boot, e.Start, e.Number, e.Settled, uint64(len(e.Commands))} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, c := range e.Commands {
		if c.By == (Principal{}) {
			dst = append(dst, byte(c.Kind))
		} else {
			dst = c.By.append(append(dst, byte(c.Kind)|hasPrincipal))
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.Body)))
		dst = append(dst, c.Body...)
	}
	return dst
}

// DecodeEntry parses what AppendEntry wrote. The bodies alias data. Errors wrap ErrMalformed or ErrUnknown.
func DecodeEntry(data []byte) (*Entry, error) {
	switch {
	case len(data) == 0 || data[0] == 0:
		return nil, fmt.Errorf("%w: it has no version", ErrMalformed)
	case Version(data[0]) > MaxVersion:
		return nil, fmt.Errorf("%w: it has version %d, and this release knows %d to %d", ErrUnknown, data[0],
			MinVersion, MaxVersion)
	}
	rest := data[1:]
	e := &Entry{Version: Version(data[0])}
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
		c := &e.Commands[i]
		c.Kind = Kind(rest[0] &^ hasPrincipal)
		named := rest[0]&hasPrincipal != 0
		if rest = rest[1:]; named {
			var err error
			if c.By, rest, err = decodePrincipal(rest); err != nil {
				return nil, err
			}
		}
		length, size := binary.Uvarint(rest)
		if size <= 0 || length > uint64(len(rest)-size) {
			return nil, fmt.Errorf("%w: command %d of %d cut short", ErrMalformed, i+1, n)
		}
		c.Body, rest = rest[size:size+int(length):size+int(length)], rest[size+int(length):]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last command", ErrMalformed, len(rest))
	}
	return e, nil
}
