//go:build !linux

package process

import "syscall"

// childAttr has nothing to set where the kernel cannot tie a child to its parent.
func childAttr() *syscall.SysProcAttr { return nil }
