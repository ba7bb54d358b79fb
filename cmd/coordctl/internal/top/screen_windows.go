package top

import (
	"os"

	"golang.org/x/sys/windows"
)

// understandsSequences makes a console of Windows understand control sequences.
func understandsSequences(out *os.File) error {
	var mode uint32
	console := windows.Handle(out.Fd())
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
}
