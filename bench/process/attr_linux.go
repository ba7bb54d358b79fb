package process

import "syscall"

// childAttr puts a process in a process group of its own, so that ctrl-C reaches the benchmark alone and the
// others are stopped in order, and has the kernel kill it when the benchmark dies without a chance to stop it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
