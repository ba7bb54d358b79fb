package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Where perf may be used a profile of this process names it and counts its samples; where not, the error says why.
func TestProfile(t *testing.T) {
	base := filepath.Join(t.TempDir(), "self")
	r, err := Start([]int{os.Getpid()}, base)
	if err != nil {
		if !strings.Contains(err.Error(), "perf") {
			t.Errorf("error %q does not name perf", err)
		}
		return
	}
	spin(2 * time.Second)
	if err := r.Stop(); err != nil {
		if !strings.Contains(err.Error(), "perf record said") {
			t.Errorf("error %q does not give perf's reason", err)
		}
		return
	}
	text, err := os.ReadFile(base + ".txt")
	if err != nil || strings.Count(string(text), "profile.test") < 2 {
		t.Errorf("the profile does not name this program twice: %v\n%s", err, text)
	}
}

//go:noinline
func spin(d time.Duration) (n int) {
	for begin := time.Now(); time.Since(begin) < d; n++ {
	}
	return n
}
