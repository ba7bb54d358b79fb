//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommandsOfConfigDoc runs every command of the page, in its order, and compares what it prints.
func TestCommandsOfConfigDoc(t *testing.T) { runDoc(t, "../../docs/config.md") }

// runDoc runs the blocks "console" of a page: lines that begin with "$ " are commands, and what follows is their output, in
// which … stands for anything up to what comes behind it on the line, and as a line of its own for any lines.
func runDoc(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, commands := t.TempDir(), 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for _, step := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			command, want, _ := strings.Cut(step, "\n")
			commands++
			got := runCommand(t, dir, command)
			if !docPattern(want).MatchString(strings.TrimRight(got, "\n")) {
				t.Errorf("$ %s\nprinted\n%s\nand not\n%s", command, got, want)
			}
		}
	}
	if commands == 0 {
		t.Errorf("%s has no commands", path)
	}
}

func docPattern(want string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(strings.TrimRight(want, "\n"))
	pattern = regexp.MustCompile(`(?m)^…$`).ReplaceAllString(pattern, `(?s:.*)`)
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	pattern = regexp.MustCompile(` {2,}`).ReplaceAllString(pattern, " +") // columns are as wide as their contents
	return regexp.MustCompile("^" + pattern + "$")
}

func runCommand(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "COORDCTL_ENDPOINTS="+endpoint(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("$ %s: %v", command, err)
	}
	return string(out)
}
