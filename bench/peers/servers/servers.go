// Package servers lets one binary act as the servers that the benchmark compares with: etcd as its authors start it,
// and a server that does nothing. So a comparison needs nothing installed, and each is still a process of its own.
package servers

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"github.com/coord-dev/coord/bench/peers"
)

// Act runs the server that args[1] names, until the process is told to stop, and reports whether it names one. args is
// the whole command line, the program's name first; what follows the server's name are its flags.
func Act(args []string) (acted bool, err error) {
	if len(args) < 2 {
		return false, nil
	}
	switch args[1] {
	case peers.ServeEtcd:
		etcdmain.Main(args[1:])
		return true, nil
	case peers.ServeNull:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return true, null(ctx, args[2:])
	}
	return false, nil
}
