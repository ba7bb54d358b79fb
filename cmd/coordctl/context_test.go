//go:build unix

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// inContexts are the options of a coordctl that knows no cluster but those of a file of contexts.
func inContexts(path string, env ...string) options {
	return options{noEndpoint: true, env: append([]string{"COORDCTL_CONFIG=" + path}, env...)}
}

func TestContexts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "contexts.yaml")
	opt := inContexts(path)
	if got := okWith(t, opt, "context", "ls", "-w", "json"); got != "[]\n" {
		t.Errorf("without a file context ls printed %q", got)
	}
	okWith(t, opt, "context", "set", "dev", "--endpoints", freeAddr(), "--command-timeout", "500ms", "--dial-timeout",
		"500ms")
	okWith(t, opt, "context", "set", "prod", "--endpoints", endpoint(t)+","+endpoint(t), "--user", "ann:secret",
		"--cacert", "ca.pem", "--command-timeout", "20s")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of contexts: %v, %v", info, err)
	}
	okWith(t, opt, "context", "use", "prod")
	type form struct {
		Name     string
		Current  bool
		Settings map[string]string
	}
	var shown form
	if err := json.Unmarshal([]byte(okWith(t, opt, "context", "show", "-w", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	wd, _ := os.Getwd()
	want := form{"prod", true, map[string]string{
		"endpoints": endpoint(t) + "," + endpoint(t), "user": "ann:…", "cacert": filepath.Join(wd, "ca.pem"),
		"command-timeout": "20s",
	}}
	if !reflect.DeepEqual(shown, want) {
		t.Errorf("context show printed %v, want %v", shown, want)
	}
	table := okWith(t, opt, "context", "ls")
	wantLine(t, table, "*", "prod", endpoint(t)+","+endpoint(t), filepath.Join(wd, "ca.pem"), "ann")
	if strings.Contains(table, "secret") {
		t.Errorf("context ls tells secrets:\n%s", table)
	}
	// Flags can be changed one by one, and an empty value removes one.
	okWith(t, opt, "context", "set", "prod", "--user", "", "--cacert", "")
	wantLine(t, okWith(t, opt, "context", "ls"), "*", "prod", endpoint(t)+","+endpoint(t), "-", "-")

	var ends []func()
	ok := func(want bool, opt options, args ...string) { // all at once, for the unreachable ones take their time
		r := start(t, opt, args...)
		ends = append(ends, func() {
			if got := r.code(t) == 0; got != want {
				t.Errorf("%v %v: success %v, error output %q", opt.env, args, got, &r.err)
			}
		})
	}
	for _, verb := range [][]string{{"get", "k"}, {"sessions", "ls"}} {
		bad := freeAddr()
		with := func(args ...string) []string { return append(args, verb...) }
		ok(true, opt, verb...)
		ok(false, opt, with("--context", "dev")...)
		ok(false, inContexts(path, "COORDCTL_CONTEXT=dev"), verb...)
		quick := []string{"COORDCTL_DIAL_TIMEOUT=500ms", "COORDCTL_COMMAND_TIMEOUT=500ms"}
		ok(false, inContexts(path, append(quick, "ETCDCTL_ENDPOINTS="+bad)...), verb...)
		ok(false, inContexts(path, append(quick, "COORDCTL_ENDPOINTS="+bad)...), verb...)
		ok(true, inContexts(path, "COORDCTL_ENDPOINTS="+bad), with("--context", "prod")...)
		ok(true, opt, with("--context", "dev", "--endpoints", endpoint(t), "--command-timeout", "20s")...)
	}
	for _, end := range ends {
		end()
	}
	okWith(t, opt, "context", "rm", "prod")
	r := start(t, opt, "context", "show")
	r.wantCode(t, 1)
	r.wantOneLine(t, "no current context")
}

func TestBrokenContextsAreExplained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contexts.yaml")
	for text, want := range map[string]string{
		"current: a\ncontexts: [\n":                            "line 2: ",
		"contexts:\n  a:\n    endpoint: x\n":                   `line 3: unknown setting "endpoint" of context a: there are auth-jwt-token, cacert, `,
		"contexts:\n  a:\n\n    dial-timeout: soon\n":          "line 4: context a: invalid argument \"soon\"",
		"contexts:\n  a: {}\n  a: {}\n":                        `line 3: "a" is there twice`,
		"contexts:\n  a: x\n":                                  "line 2: context a must be a mapping",
		"contexts:\n  a b: {}\n":                               `line 2: bad name "a b"`,
		"contexts:\n  a:\n    endpoints: {b: c}\n":             "line 3: not a value",
		"current: a\ncontext: {}\n":                            `line 2: unknown key "context"`,
		"- a\n":                                                "line 1: the file must be a mapping",
		"current: gone\ncontexts:\n  a:\n    endpoints: [x]\n": `no such context: "gone" in ` + path + ", which has a",
		"current: gone\n":                                      "which has none",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"get", "k"}, {"locks", "ls"}} {
			r := start(t, inContexts(path), args...)
			r.wantCode(t, 128)
			r.wantOneLine(t, path)
			r.wantOneLine(t, want)
		}
		if strings.HasPrefix(text, "current: gone") { // which is repaired by another one
			okWith(t, inContexts(path), "context", "set", "b", "--endpoints", "x")
			okWith(t, inContexts(path), "context", "use", "b")
		}
		for _, verb := range []string{"version", "options"} {
			okWith(t, inContexts(path), verb)
		}
	}
	// Who has no home has no contexts, and no need of any.
	homeless := options{env: []string{"HOME=", "XDG_CONFIG_HOME="}}
	okWith(t, homeless, "get", "k")
	if got := okWith(t, homeless, "context", "ls", "-w", "json"); got != "[]\n" {
		t.Errorf("without a home context ls printed %q", got)
	}
	r := start(t, homeless, "context", "set", "a", "--endpoints", "x")
	r.wantCode(t, 1)
	r.wantOneLine(t, "COORDCTL_CONFIG")
	// Lists of endpoints are what people write.
	if err := os.WriteFile(path,
		[]byte("current: a\ncontexts:\n  a:\n    endpoints: ["+endpoint(t)+"]\n    insecure-transport: true\n  "+
			"empty:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	okWith(t, inContexts(path), "get", "k")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no such context", []string{"use", "none"}}, {"no such context", []string{"rm", "none"}},
		{"no such context", []string{"show", "none"}},
		{"bad name", []string{"set", "a/b", "--endpoints", "x"}}, {"nothing to set", []string{"set", "a"}},
		{"takes the name", []string{"use"}},
		{"takes the name", []string{"show", "a", "b"}},
	} {
		r := start(t, inContexts(path), append([]string{"context"}, c.args...)...)
		r.wantCode(t, 128)
		r.wantOneLine(t, c.want)
	}
	okWith(t, inContexts(path), "context", "set", "a", "--insecure-transport=false") // and a link stays a link
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	okWith(t, inContexts(link), "context", "use", "empty")
	if got, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(got), "current: empty\n") {
		t.Errorf("through a link: %q, %v", got, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
