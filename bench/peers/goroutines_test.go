package peers

import (
	"strings"
	"testing"
)

func TestParseGoroutines(t *testing.T) {
	n, err := parseGoroutines(strings.NewReader("# HELP go_goroutines x\n# TYPE go_goroutines " +
		"gauge\ngo_goroutines 131\n"))
	if err != nil || n != 131 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := parseGoroutines(strings.NewReader("go_threads 1\n")); err == nil {
		t.Error("metrics without go_goroutines were accepted")
	}
}
