//go:build !linux

package peer

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the option does not exist: write deadlines
// and pings notice a peer that vanished.
func setUserTimeout(*net.TCPConn, time.Duration) {}
