package coord_test

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is how wide a line is at most; a tab counts as four.
const maxColumns = 120

// tooWide are folders whose lines are still to be wrapped. Who has wrapped one takes it out.
var tooWide = []string{"docs"}

// Lines that one cannot read without scrolling are not read. Not meant are raw strings, which say something as it is,
// and what has no space to break at.
func TestLinesFitTheScreen(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		dir := filepath.ToSlash(filepath.Dir(path))
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && name != "."):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, ".pb.go"), stillTooWide(dir):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw := rawLines(src)
		for i, line := range strings.Split(string(src), "\n") {
			if n := columns(line); n > maxColumns && !raw[i+1] && strings.Contains(strings.TrimLeft(line, "\t /"),
				" ") {
				t.Errorf("%s:%d: %d columns, more than %d", path, i+1, n, maxColumns)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A table is a line in Markdown.
func TestArchitectureFitsTheScreen(t *testing.T) {
	src, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(src), "\n") {
		if n := columns(line); n > maxColumns && !strings.HasPrefix(line, "|") {
			t.Errorf("ARCHITECTURE.md:%d: %d columns, more than %d", i+1, n, maxColumns)
		}
	}
}

// stillTooWide says whether dir is in the list, or below a folder of it that is no package with others in the list.
func stillTooWide(dir string) bool {
	if slices.Contains(tooWide, dir) {
		return true
	}
	for _, wide := range tooWide {
		if strings.HasPrefix(dir, wide+"/") && wide != "coord" {
			return true
		}
	}
	return false
}

func columns(line string) int { return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t") }

// rawLines are the lines, from 1 on, with a part of a raw string.
func rawLines(src []byte) map[int]bool {
	file := token.NewFileSet().AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, 0)
	raw := map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		switch {
		case tok == token.EOF:
			return raw
		case tok == token.STRING && lit[0] == '`':
			for i := range strings.Count(lit, "\n") + 1 {
				raw[file.Line(pos)+i] = true
			}
		}
	}
}
