package child

import (
	"os"
	"syscall"
)

// Signals are the ones to catch and hand to Signal.
func Signals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// Ends reports whether a signal asks the process to end.
func Ends(os.Signal) bool { return true }

// Signal does nothing: the console delivers ctrl-C and its closing to every process on it, the command included.
func (c *Child) Signal(os.Signal) {}

// terminate is forceful at once: Windows has no polite request that every program hears.
func (c *Child) terminate() { c.kill() }

func (c *Child) kill() { _ = c.cmd.Process.Kill() }

func (c *Child) gone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// terminal has nothing to hand over on Windows.
type terminal struct{}

func openTerminal() terminal { return terminal{} }

func (terminal) takeBack() {}

func processAttr(terminal) *syscall.SysProcAttr { return nil }

func exitCode(state *os.ProcessState, _ error) int {
	if state == nil {
		return CodeNotExecutable
	}
	return state.ExitCode()
}
