package configtest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCodeOfConfigDoc: the Go code of the page is that of the examples, which are compiled and run.
func TestCodeOfConfigDoc(t *testing.T) {
	page, err := os.ReadFile("../../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(code string) string {
		var lines []string
		for line := range strings.Lines(code) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return strings.Join(lines, "\n")
	}
	examples := flat(string(source))
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Error("the page has no code")
	}
	for _, b := range blocks {
		if !strings.Contains(examples, strings.TrimSpace(flat(b[1]))) {
			t.Errorf("no example has\n%s", b[1])
		}
	}
}
