package coord_test

import (
	"os"
	"strings"
	"testing"

	"github.com/coord-dev/coord/proto/layout"
)

// Where a kind has another word in coordctl, or another page, than its own.
var (
	verbOf = map[layout.Kind]string{
		layout.Lock: "locks show", layout.Election: "elections show", layout.Gate: "barrier open",
		layout.Bundle: "cfg get",
	}
	pageOf = map[layout.Kind]string{layout.Gate: "barrier", layout.Service: "registry", layout.Bundle: "config"}
)

// TestEachKindIsWrittenDown: who adds a kind is told where users and colleagues look for it: the drawing of the keys,
// what completes its names in a shell, and a page.
func TestEachKindIsWrittenDown(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	keys, completions := read("proto/layout/doc.go"), read("cmd/coordctl/internal/completion/completion.go")
	pages := read("docs/recipes/README.md")
	for _, kind := range layout.Kinds() {
		if dir := kind.Dir(); dir != "" && !strings.Contains(keys, "//\t"+dir+"<") {
			t.Errorf("proto/layout/doc.go does not draw the keys of a %v", kind)
		}
		verb := verbOf[kind]
		if verb == "" {
			verb = kind.String() + " ls"
		}
		if !strings.Contains(completions, `"`+verb+`"`) {
			t.Errorf("nothing completes the name of a %v behind coordctl %s", kind, verb)
		}
		page := pageOf[kind]
		if page == "" {
			page = kind.String()
		}
		if !strings.Contains(pages, "("+page+".md)") {
			t.Errorf("docs/recipes/README.md has no page %s.md of a %v", page, kind)
		}
	}
}
