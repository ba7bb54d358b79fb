package peer

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout gives up a connection whose bytes stay unacknowledged for d. A
// failure is harmless: write deadlines and pings remain.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
