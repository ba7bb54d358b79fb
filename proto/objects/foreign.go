package objects

import (
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// ForeignKey says in words which key of another client an entry of a queue is, and when it goes; it is empty for an
// entry that a session made. Who waits behind such a key has to know: nothing here can take it for dead.
func ForeignKey(e *coordv1.Entry) string {
	switch {
	case len(e.GetForeignKey()) == 0:
		return ""
	case e.Lease == 0:
		return fmt.Sprintf("key %q, which no lease ends: it may never go unless somebody deletes it", e.ForeignKey)
	}
	return fmt.Sprintf("key %q, which stands until lease %x ends or somebody deletes it", e.ForeignKey, uint64(e.Lease))
}
