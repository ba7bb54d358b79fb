package cli

import (
	"testing"
	"time"
)

func TestParseSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "3": 3 * time.Second, "1500ms": 1500 * time.Millisecond, "10s": 10 * time.Second,
		"1m30s": 90 * time.Second,
		"1.5s":  1500 * time.Millisecond,
	} {
		if got, err := parseSeconds(text); err != nil || got != want {
			t.Errorf("parseSeconds(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "-1s", "soon", "1.5", "9999999999999", "99999999999999999999", "3 s"} {
		if got, err := parseSeconds(text); err == nil {
			t.Errorf("parseSeconds(%q) = %v, want an error", text, got)
		}
	}
}
