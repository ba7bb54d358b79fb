package keyspace

import (
	"context"
	"fmt"

	"github.com/coord-dev/coord/proto/principal"
)

// admit is the one point that whatever reads the store passes, as the proposer is for what goes into the log: who asks
// must be named. The gate of the gRPC server names who asks for clients; what a member does for the cluster's sake is
// its own. What only says how the member itself is (its revision, the size of its store) does not pass.
func admit(ctx context.Context) error {
	if _, err := principal.Of(ctx); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	return nil
}
