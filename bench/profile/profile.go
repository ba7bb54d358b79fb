// Package profile records where running processes spend their CPU, kernel included, with Linux' perf. Servers need no
// support for it, and what a log costs in the kernel is seen beside what the server itself does.
package profile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// frequency of samples a second; odd, so as not to beat with the servers' tickers.
const frequency = 499

// Recording is a profile being taken.
type Recording struct {
	cmd  *exec.Cmd
	base string
	said strings.Builder
}

// Start begins to sample pids. Stop must be called.
func Start(pids []int, base string) (*Recording, error) {
	var list []string
	for _, pid := range pids {
		list = append(list, strconv.Itoa(pid))
	}
	r := &Recording{base: base}
	r.cmd = exec.Command("perf", "record", "-q", "-g", "-F", strconv.Itoa(frequency), "-p", strings.Join(list, ","),
		"-o", base+".perf")
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return r, nil
}

// Stop ends the sampling, leaves the samples in BASE.perf, and writes the functions that used most, by themselves and
// with what they called, to BASE.txt.
func (r *Recording) Stop() error {
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	// perf ends by the signal it was sent; whether it recorded is seen by reading what it wrote.
	_ = r.cmd.Wait()
	var text []byte
	for _, order := range []string{"--no-children", "--children"} {
		out, err := exec.Command("perf", "report", "-i", r.base+".perf", "--stdio", "-g", "none", "--percent-limit",
			"0.5", order).Output()
		if err != nil {
			return fmt.Errorf("read profile %s.perf: %w; perf record said %q", r.base, err, r.said.String())
		}
		text = append(text, out...)
	}
	return os.WriteFile(r.base+".txt", text, 0o644)
}
