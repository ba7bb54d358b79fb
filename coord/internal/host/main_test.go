package host

import (
	"testing"

	"go.uber.org/goleak"
)

// Pebble and Dragonboat stop all of theirs; what is left is ours.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
