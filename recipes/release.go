package recipes

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxReleased is how many entries one request releases at most.
const maxReleased = 1024

// release deletes entries, each by its token, at one revision.
func release(step statemachine.Step, req *coordv1.Release) (proto.Message, error) {
	if n := len(req.Entries); n == 0 || n > maxReleased {
		return nil, invalid("%d entries, not between 1 and %d", n, maxReleased)
	}
	resp := &coordv1.Released{Revision: step.Revision()}
	var keys []string
	seen := map[string]bool{}
	for _, g := range req.Entries {
		queue, err := checkEntry(g.Name, g.Key, g.Token)
		if err != nil {
			return nil, err
		}
		claim, ok, err := granted(step, queue, g.Key, g.Token)
		if err != nil {
			return nil, err
		}
		if ok && req.Claim != 0 && claim != req.Claim {
			return nil, refuse(ErrSuperseded, "%q", g.Key)
		}
		if ok && !seen[g.Key] {
			keys, seen[g.Key] = append(keys, g.Key), true
		}
	}
	if len(keys) > 0 {
		resp.Revision++
	}
	for _, key := range keys {
		if _, err := step.Delete([]byte(key)); err != nil {
			return nil, err
		}
		resp.Removed++
	}
	return resp, nil
}

// granted finds the entry that the token was given to, and returns its claim; ok is false if it is gone, and something
// newer may stand at its key. ErrTokenMismatch if no entry of this key ever had the token.
func granted(step statemachine.Step, queue, key string, token int64) (claim int64, ok bool, err error) {
	old := step.Get([]byte(key))
	switch {
	case old != nil && (old.CreateRevision == token || leads(step, queue, old, token)):
		return old.ModRevision, true, nil
	case old != nil && old.CreateRevision < token, token > step.Revision():
		return 0, false, refuse(ErrTokenMismatch, "%q never had %d", key, token)
	}
	return 0, false, nil
}

// leads says whether kv is the candidate that leads an election with priorities in this term.
func leads(step statemachine.Step, queue string, kv *mvccpb.KeyValue, term int64) bool {
	if !ByPriority(queue) {
		return false
	}
	s := leaderOf(step, queue)
	return s.entry.Key == string(kv.Key) && s.term == term
}
