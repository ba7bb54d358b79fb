package coord_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coord-dev/coord/proto/layout"
)

// Only package layout knows where things stand in the keyspace: who puts a key together by hand goes wrong when the
// layout changes, and permissions and guards that ask the layout do not cover it.
func TestKeysAreMadeByLayout(t *testing.T) {
	inKeys := keyWords()
	err := filepath.WalkDir(".", func(file string, d os.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || file == filepath.FromSlash("proto/layout")):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"),
			strings.HasSuffix(name, ".pb.go"):
			return nil
		}
		return eachString(file, func(at token.Position, text string) {
			for _, word := range inKeys {
				if has(text, word) {
					t.Errorf("%s: %q has %q, a part of keys: ask package proto/layout for the key", at, text, word)
				}
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// has reports whether text has a word that is not that of a hidden file, like ~/.config/x.
func has(text, word string) bool {
	return strings.Contains(strings.ReplaceAll(text, "."+word, ""), word)
}

// keyWords are the reserved prefix, the directories of the kinds, and the words that keys end in or have in their
// middle.
func keyWords() []string {
	words := []string{layout.Reserved, layout.ReservedEnd, "asks/", "transfers/"}
	for _, k := range layout.Kinds() {
		if dir := strings.TrimPrefix(k.Dir(), layout.Reserved); dir != "" {
			words = append(words, dir)
		}
	}
	for _, record := range []layout.Part{layout.Leader, layout.Counts, layout.Limit, layout.State, layout.Current,
		layout.Schemas} {
		words = append(words, "/"+string(record))
	}
	for _, part := range []layout.Part{layout.Instance, layout.Order, layout.Probe, layout.Version, layout.Status} {
		words = append(words, string(part)+"/")
	}
	return words
}

// eachString calls fn for the string literals of a file that are no import path.
func eachString(file string, fn func(at token.Position, text string)) error {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if _, imports := n.(*ast.ImportSpec); imports {
			return false
		}
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				fn(files.Position(lit.Pos()), text)
			}
		}
		return true
	})
	return nil
}
