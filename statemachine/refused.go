package statemachine

import (
	"fmt"
	"strconv"
	"strings"
)

// Refused names a command of the log that the operator has refused, because all members ended at it: when its entry is
// applied, it is not executed, and ErrRefusedByOperator is its outcome. All members that connect have the same list,
// see coord/internal/handshake.
//
// Of a tick is refused less, as time must pass and leases must end: refused as a whole, its leases expire, but no queue
// hears of it, and those that would are broken. A Request is one of its leases, in the order in which they expire: that
// one lives a day longer.
//
//	row: 10 index:8 command:4 request:4 → empty
type Refused struct {
	Index            uint64 // of the log entry
	Command, Request uint32 // from 1; a Request, or lease of a tick, of 0 means the whole command
}

// String is what ParseRefused reads: INDEX.COMMAND or INDEX.COMMAND.REQUEST.
func (r Refused) String() string {
	if r.Request == 0 {
		return fmt.Sprintf("%d.%d", r.Index, r.Command)
	}
	return fmt.Sprintf("%d.%d.%d", r.Index, r.Command, r.Request)
}

// ParseRefused reads what a member that ended at a command calls it.
func ParseRefused(s string) (r Refused, err error) {
	parts := strings.Split(s, ".")
	bits := []int{64, 32, 32}
	for i, dst := range []func(uint64){
		func(v uint64) { r.Index = v }, func(v uint64) { r.Command = uint32(v) },
		func(v uint64) { r.Request = uint32(v) },
	} {
		if i >= len(parts) {
			continue
		}
		v, err := strconv.ParseUint(parts[i], 10, bits[i])
		if err != nil || v == 0 {
			return Refused{}, fmt.Errorf("%q does not name a command: INDEX.COMMAND or INDEX.COMMAND.REQUEST, as in "+
				"the last line of the member that ended at it", s)
		}
		dst(v)
	}
	if len(parts) < 2 || len(parts) > 3 {
		return Refused{}, fmt.Errorf("%q does not name a command: INDEX.COMMAND or INDEX.COMMAND.REQUEST, as in the "+
			"last line of the member that ended at it", s)
	}
	return r, nil
}
