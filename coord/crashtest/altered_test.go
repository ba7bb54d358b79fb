package crashtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// edit puts more behind the one place in a file of this repository where at stands.
type edit struct{ file, at, more string }

// altered builds a coordd with changes that no release has, by an overlay, and returns the path of the program. It is
// for what a test cannot have otherwise: an apply that panics, or a check that lets everything pass.
func altered(t testing.TB, edits ...edit) string {
	t.Helper()
	dir := t.TempDir()
	replaced := map[string]string{}
	for _, e := range edits {
		source, err := filepath.Abs(filepath.Join("../..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := source
		if to := replaced[source]; to != "" {
			from = to
		}
		code, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(code, []byte(e.at)); n != 1 {
			t.Fatalf("%s has %q %d times", e.file, e.at, n)
		}
		replaced[source] = filepath.Join(dir, filepath.Base(source))
		if err := os.WriteFile(replaced[source], bytes.Replace(code, []byte(e.at), []byte(e.at+e.more), 1),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "coordd")
	b, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay="+overlay, "-o", program,
		"github.com/coord-dev/coord/cmd/coordd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}
