package coord_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ARCHITECTURE.md names files, metrics, types and tests. What is renamed or gone is found here.
func TestArchitectureNamesWhatThereIs(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	source := allSource(t)
	files := trackedFiles(t)
	file := regexp.MustCompile(`^[\w./-]+\.(go|proto|md)$`)
	metric := regexp.MustCompile(`^coord_[a-z_]+`)
	test := regexp.MustCompile(`^Test[A-Z]\w*$`)
	folder := regexp.MustCompile(`^(proto|coord|client|statemachine)/[\w/]+$`)
	member := regexp.MustCompile(`^[a-z]\w*(\.[A-Za-z]\w*)+$`)
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(page), -1) {
		switch name := m[1]; {
		case file.MatchString(name):
			if !anyHas(files, "/"+name) {
				t.Errorf("there is no file %s", name)
			}
		case test.MatchString(name):
			if !strings.Contains(source[inTests], "\nfunc "+name+"(") {
				t.Errorf("there is no test %s", name)
			}
		case folder.MatchString(name):
			if d, err := os.Stat(name); err != nil || !d.IsDir() {
				t.Errorf("there is no folder %s", name)
			}
		case metric.MatchString(name):
			if m := metric.FindString(name); !strings.Contains(source[""], `"`+m+`"`) {
				t.Errorf("there is no metric %s", m)
			}
		case member.MatchString(name) && !strings.HasPrefix(name, "coord.v1") && !strings.HasPrefix(name, "clientv3"):
			folder, rest, _ := strings.Cut(name, ".")
			last := rest[strings.LastIndexByte(rest, '.')+1:]
			declared := regexp.MustCompile(`(?m)(^(type|func|var|const) |^func \([^)]*\) |^\t)` + last + `\b`)
			if !declared.MatchString(source[strings.TrimSuffix(folder, "v1")]) {
				t.Errorf("package %s declares no %s, of %s", folder, last, name)
			}
		}
	}
}

// TestArchitectureHasEachFolder: who looks for what a folder is for finds a line, where the folders are listed.
func TestArchitectureHasEachFolder(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"statemachine", "recipes", "coord/internal", "client"} {
		folders, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range folders {
			name := d.Name()
			if !d.IsDir() || name == "internal" || name == "testdata" || name == "exampletest" {
				continue
			}
			if !regexp.MustCompile(`(?m)^  ` + name + `\s`).Match(page) {
				t.Errorf("no line says what %s/%s is", parent, name)
			}
		}
	}
}

func anyHas(files []string, suffix string) bool {
	for _, f := range files {
		if strings.HasSuffix("/"+f, suffix) {
			return true
		}
	}
	return false
}

// trackedFiles are the files of the repository, without those that are ignored; where there is no git all in the
// folder.
func trackedFiles(t *testing.T) (files []string) {
	t.Helper()
	if out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard").Output(); err == nil {
		return strings.Fields(string(out))
	}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// inTests is the key in allSource of all Go that is a test.
const inTests = "_test.go"

// allSource is all Go that is no test, generated code included: by the folder that it is in, of .../raft/v1 by raft,
// and all of it by "".
func allSource(t *testing.T) map[string]string {
	t.Helper()
	var all, tests strings.Builder
	byFolder := map[string]*strings.Builder{"": &all, inTests: &tests}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.HasSuffix(path, inTests) {
			tests.Write(b)
			return err
		}
		folder := filepath.Base(strings.TrimSuffix(filepath.ToSlash(filepath.Dir(path)), "/v1"))
		if byFolder[folder] == nil {
			byFolder[folder] = &strings.Builder{}
		}
		for _, source := range []*strings.Builder{&all, byFolder[folder]} {
			source.Write(b)
			source.WriteByte('\n')
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for folder, source := range byFolder {
		sources[folder] = source.String()
	}
	return sources
}
