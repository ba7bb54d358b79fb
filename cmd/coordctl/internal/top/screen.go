package top

import (
	"bytes"
	"os"

	"golang.org/x/term"
)

// screen is a terminal that shows whole pictures. Its own contents come back when it is closed.
type screen struct {
	in, out *os.File
	before  *term.State // nil if in is no terminal: then there are no keys
}

// The control sequences of ECMA-48 and xterm that a screen needs.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the other buffer, no cursor, no wrapping of long lines
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K" // from here to its end
	eraseBelow  = "\x1b[J"
	highlighted = "\x1b[7m"
	normal      = "\x1b[0m"
)

func openScreen(in, out *os.File) (*screen, error) {
	s := &screen{in: in, out: out}
	if err := understandsSequences(out); err != nil {
		return nil, err
	}
	if term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return nil, err
		}
		s.before = before
	}
	_, err := out.WriteString(enterScreen)
	return s, err
}

func (s *screen) close() {
	_, _ = s.out.WriteString(leaveScreen)
	if s.before != nil {
		_ = term.Restore(int(s.in.Fd()), s.before)
	}
}

// size is in columns and lines.
func (s *screen) size() (width, height int) {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// show replaces what is shown, in one write so that nothing flickers.
func (s *screen) show(lines []string) error {
	var picture bytes.Buffer
	picture.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			picture.WriteString("\r\n")
		}
		picture.WriteString(line + eraseLine)
	}
	picture.WriteString(eraseBelow)
	_, err := s.out.Write(picture.Bytes())
	return err
}

// untilQuit returns when q, ctrl-C or ctrl-D is pressed, and never without a keyboard.
func (s *screen) untilQuit() {
	if s.before == nil {
		select {}
	}
	key := make([]byte, 1)
	for {
		if _, err := s.in.Read(key); err != nil {
			return
		}
		switch key[0] {
		case 'q', 'Q', '\x03', '\x04':
			return
		}
	}
}
