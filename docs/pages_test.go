//go:build unix

package docs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// headings are those that each page of a recipe has, in this order; others may stand between them.
var headings = []string{
	"From the command line", "In Go", "What it promises", "What it does not promise", "When something fails", "Bad input",
	"The same elsewhere",
}

// foreign are the languages of what is not run: other systems' code, below the last heading only.
var foreign = []string{"java", "sh"}

// TestPages runs the commands of each page in its order, against a member of its own, and finds its Go code in what is tested.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("recipes/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, path := range append(pages, "coordctl.md", "../README.md") {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocks := blocksOf(string(text))
			if filepath.Dir(path) == "recipes" && name != "README" { // the others have a shape of their own
				checkShape(t, string(text), blocks)
			}
			checkLinks(t, filepath.Dir(path), string(text))
			for _, b := range blocks {
				if b.language == "go" && !strings.Contains(testedCode(), flat(b.text)) {
					t.Errorf("no tested Go file has\n%s", b.text)
				}
			}
			runCommands(t, blocks)
		})
	}
}

// block is a fenced block of a page, and the heading it stands under.
type block struct{ heading, language, text string }

func blocksOf(page string) []block {
	var blocks []block
	for _, section := range strings.Split("\n"+page, "\n## ") {
		heading, _, _ := strings.Cut(section, "\n")
		for _, b := range regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
			blocks = append(blocks, block{heading, b[1], b[2]})
		}
	}
	return blocks
}

func checkShape(t *testing.T, page string, blocks []block) {
	at := 0
	for _, line := range strings.Split(page, "\n") {
		if at < len(headings) && line == "## "+headings[at] {
			at++
		}
	}
	if at < len(headings) {
		t.Errorf("there is no heading %q behind %q", headings[at], headings[:at])
	}
	for _, b := range blocks {
		if b.language != "go" && b.language != "console" && (b.heading != headings[len(headings)-1] || !slices.Contains(foreign, b.language)) {
			t.Errorf("a block of language %q under %q is not tested:\n%s", b.language, b.heading, b.text)
		}
	}
	for _, language := range []string{"go", "console"} {
		if !slices.ContainsFunc(blocks, func(b block) bool { return b.language == language }) {
			t.Errorf("no block of language %q", language)
		}
	}
}

// checkLinks wants a file behind each relative link of a page in a folder.
func checkLinks(t *testing.T, folder, page string) {
	prose := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(page, "")
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)[^)]*\)`).FindAllStringSubmatch(prose, -1) {
		if strings.Contains(link[0], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, link[1])); err != nil {
			t.Errorf("the link %s leads nowhere", link[0])
		}
	}
}

// testedCode is the code that tests run: they themselves, and the examples.
var testedCode = sync.OnceValue(func() string {
	var all strings.Builder
	for _, root := range []string{".", "../client"} {
		_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, _ error) error {
			if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "examples/") && strings.HasSuffix(path, ".go") {
				code, err := os.ReadFile(path)
				if err != nil {
					panic(err)
				}
				all.WriteString(flat(string(code)) + "\n")
			}
			return nil
		})
	}
	return all.String()
})

// flat is code without indentation and without a newline at its end.
func flat(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// runCommands runs the blocks "console": a line that begins with "$ " is a command, which lines with "> " continue; what follows is
// its output, in which … stands for anything up to what comes behind it on the line, and as a line of its own for any lines.
// All commands of a page are those of one shell, in an empty folder.
func runCommands(t *testing.T, blocks []block) {
	var sh *shell
	for _, b := range blocks {
		if b.language != "console" {
			continue
		}
		if strings.Contains(b.text, "$ dig ") && !installed("dig") {
			t.Log("dig is not installed (apt-get install bind9-dnsutils), so these are not run:\n" + b.text)
			continue
		}
		if sh == nil {
			sh = startShell(t)
		}
		for _, step := range strings.Split("\n"+b.text, "\n$ ")[1:] {
			command, want, _ := strings.Cut(step, "\n")
			for strings.HasPrefix(want, "> ") {
				more, rest, _ := strings.Cut(want[2:], "\n")
				command, want = command+"\n"+more, rest
			}
			got := sh.run(t, command)
			if !pattern(want).MatchString(strings.TrimRight(got, "\n")) {
				t.Errorf("$ %s\nprinted\n%s\nand not\n%s", command, got, want)
			}
		}
	}
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// pattern is what output matches the one of a page.
func pattern(want string) *regexp.Regexp {
	p := regexp.QuoteMeta(strings.TrimRight(want, "\n"))
	p = regexp.MustCompile(`(?m)^…$`).ReplaceAllString(p, `(?s:.*)`)
	p = strings.ReplaceAll(p, "…", ".*")
	p = regexp.MustCompile(` {2,}`).ReplaceAllString(p, " +") // columns are as wide as their contents
	return regexp.MustCompile("^" + p + "$")
}
