package coord_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// retired are words that only their author could read, or that meant several things, each with the ones that took their
// place; the glossary is in ARCHITECTURE.md. No identifier has one of them, alone or in a longer name.
var retired = map[string]string{
	"bereft": "report", "door": "check, gate", "glance": "front", "hall": "holders", "keeper": "records",
	"roster": "instances",
	"seat":   "leader", "tally": "counts", "wish": "acquisition",
}

// retiredHere are words that have a meaning in other folders.
var retiredHere = map[string]map[string]string{
	"client": {
		"claim": "admission", "former": "predecessor", "teller": "notifier", "through": "recipe",
	},
	"coord/internal/mirror":    {"line": "mirror", "former": "previous", "place": "position"},
	"coord/internal/recipesvc": {"line": "mirror", "place": "position"},
	"coord/internal/stream":    {"line": "mirror", "place": "entry"},
	"coord/internal/watch":     {"session": "call", "place": "state"},
	"coord/internal/handshake": {"session": "exchange"},
	"coord/internal/propose":   {"place": "proposal"},
	"proto/layout":             {"place": "key"},
	"recipes":                  {"former": "previous"},
}

// keptWords are identifiers that have a retired word nevertheless, by folder and name, and why.
var keptWords = map[string]string{
	"recipes.Tally":  "the message recipesv1.Tally: what is stored keeps its name",
	"recipes.Former": "the field of recipesv1.Moved",
}

func TestNoRetiredWords(t *testing.T) {
	used := map[string]bool{}
	eachGoFile(t, func(path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		ast.Inspect(file, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			for _, word := range wordsOf(strings.ReplaceAll(id.Name, "ooKeeper", "ookeeper")) {
				instead, ok := retired[word]
				if !ok {
					instead, ok = retiredHere[dir][word]
				}
				if name := dir + "." + id.Name; ok && keptWords[name] != "" {
					used[name] = true
				} else if ok {
					t.Errorf("%s: %q has %q, for which the word is: %s", path, id.Name, word, instead)
				}
			}
			return true
		})
	})
	for name := range keptWords {
		if !used[name] {
			t.Errorf("%s is listed and nowhere", name)
		}
	}
}

// eachGoFile calls fn for the Go files that are neither generated nor tests.
func eachGoFile(t *testing.T, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && name == "testdata":
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"),
			strings.HasSuffix(name, ".pb.go"):
			return nil
		}
		fn(path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wordsOf are the words of an identifier in lower case, each in the singular: "TallyKeys" has "tally" and "key".
func wordsOf(id string) (words []string) {
	start := 0
	runes := []rune(id)
	for i := 1; i <= len(runes); i++ {
		if i < len(runes) && runes[i] != '_' && (!unicode.IsUpper(runes[i]) ||
			unicode.IsUpper(runes[i-1]) && !lowerAt(runes, i+1)) {
			continue
		}
		word := strings.ToLower(strings.Trim(string(runes[start:i]), "_"))
		if s := strings.TrimSuffix(word, "ies"); s != word {
			word = s + "y"
		}
		words = append(words, strings.TrimSuffix(word, "s"))
		start = i
	}
	return words
}

func lowerAt(runes []rune, i int) bool { return i < len(runes) && unicode.IsLower(runes[i]) }

func TestWordsOf(t *testing.T) {
	for id, want := range map[string][]string{
		"tally": {"tally"}, "byTallies": {"by", "tally"}, "Lines": {"line"}, "deadline": {"deadline"},
		"DNSSeat":   {"dn", "seat"},
		"keeper_of": {"keeper", "of"}, "inHall": {"in", "hall"},
	} {
		if got := wordsOf(id); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}
