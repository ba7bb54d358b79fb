package child

import "syscall"

// dieWithParent makes the kernel ask the command to end when our process is gone without having stopped it.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
