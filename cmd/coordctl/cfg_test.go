//go:build unix

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// write makes files of name and content in turn, in a folder of the test.
func write(t *testing.T, pairs ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, pairs[i]), []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// cfgPut publishes one document.
func cfgPut(t *testing.T, bundle, document, content string, flags ...string) string {
	t.Helper()
	return okWith(t, options{stdin: content},
		append([]string{"cfg", "put", bundle, document + "=-", "--reason", "test"}, flags...)...)
}

func TestCfgPutAndGet(t *testing.T) {
	dir := write(t, "b.yaml", "x: 1", "a.json", "{}\n")
	out := ok(t, "cfg", "put", "put/a", filepath.Join(dir, "b.yaml"), "renamed.json="+filepath.Join(dir, "a.json"),
		"--reason", "first", "--author", "ann")
	if !strings.HasPrefix(out, "version 1 of put/a at revision ") {
		t.Errorf("put printed %q", out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "==> b.yaml <==\nx: 1\n\n==> renamed.json <==\n{}\n"},
		{[]string{"--version", "1"}, "==> b.yaml <==\nx: 1\n\n==> renamed.json <==\n{}\n"},
		{[]string{"--document", "b.yaml"}, "x: 1"},
	} {
		if got := ok(t, append([]string{"cfg", "get", "put/a"}, c.args...)...); got != c.want {
			t.Errorf("get %v printed %q, want %q", c.args, got, c.want)
		}
	}
	type form struct {
		Bundle, Author, Reason, Time, Hash string
		Version, Revision                  int64
		Documents                          map[string]string
		Binary                             map[string][]byte `json:"binary_documents"`
	}
	check := func(text string, decode func([]byte, any) error) {
		t.Helper()
		var v form
		if err := decode([]byte(text),
			&v); err != nil || v.Bundle != "put/a" || v.Version != 1 || v.Revision == 0 || v.Author != "ann" ||
			v.Reason != "first" || len(v.Hash) != 64 || v.Documents["b.yaml"] != "x: 1" ||
			!strings.HasSuffix(v.Time, "Z") {
			t.Errorf("%v: %+v of %q", err, v, text)
		}
	}
	check(ok(t, "cfg", "get", "put/a", "-w", "json"), json.Unmarshal)
	check(ok(t, "cfg", "get", "put/a", "-w", "yaml"), func(b []byte, v any) error { return yaml.Unmarshal(b, v) })
	if got := ok(t, "cfg", "get", "put/a", "-w", "table"); !strings.Contains(got, "VERSION") ||
		!strings.Contains(got, "renamed.json  3") {
		t.Errorf("the table is %q", got)
	}
	cfgPut(t, "put/bin", "d", "\xff")
	var v form
	if err := json.Unmarshal([]byte(ok(t, "cfg", "get", "put/bin", "-w", "json")),
		&v); err != nil || string(v.Binary["d"]) != "\xff" || len(v.Documents) != 0 {
		t.Errorf("a binary document: %+v, %v", v, err)
	}
	if got := ok(t, "cfg", "get", "put/bin"); got != "\xff" {
		t.Errorf("a binary document printed %q", got)
	}
}

func TestCfgHistoryDiffAndRollback(t *testing.T) {
	cfgPut(t, "hist", "d", "1\n", "--author", "ann", "--keep", "3")
	cfgPut(t, "hist", "d", "2\n", "--author", "b\x1b[31mob", "--expect", "1")
	if got := ok(t, "cfg", "diff", "hist", "1"); got != "--- hist/d@1\n+++ hist/d@2\n@@ -1 +1 @@\n-1\n+2\n" {
		t.Errorf("diff printed %q", got)
	}
	if got := ok(t, "cfg", "diff", "hist", "2", "1", "-w", "json"); !strings.Contains(got, `"change":"modified"`) || !strings.Contains(got, `"from":2,"to":1`) {
		t.Errorf("diff printed %q", got)
	}
	if got := ok(t, "cfg", "rollback", "hist", "1", "--reason", "errors"); !strings.HasPrefix(got,
		"version 3 of hist") {
		t.Errorf("rollback printed %q", got)
	}
	if got := ok(t, "cfg", "get", "hist"); got != "1\n" {
		t.Errorf("after the rollback %q", got)
	}
	cfgPut(t, "hist", "d", "4\n")
	lines := strings.Split(strings.TrimSpace(ok(t, "cfg", "history", "hist")), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "VERSION") || !strings.HasPrefix(lines[1], "4 ") ||
		!strings.Contains(lines[2], "(back to 1) errors") ||
		!strings.Contains(lines[3], `"b\x1b[31mob"`) {
		t.Errorf("history printed %q", lines)
	}
	var forms []map[string]any
	if err := json.Unmarshal([]byte(ok(t, "cfg", "history", "hist", "-w", "json", "--limit", "2")),
		&forms); err != nil || len(forms) != 2 || forms[1]["rollback_of"] != 1.0 {
		t.Errorf("history: %v, %v", forms, err)
	}
}

func TestCfgErrorsAreOneLineEach(t *testing.T) {
	cfgPut(t, "err", "d.json", "{}")
	empty := write(t, "empty", "", "bad", "{")
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{128, "--reason is missing", []string{"put", "err", "d=-"}},
		{128, "takes the name of a bundle and files", []string{"put", "err"}},
		{128, "is there twice", []string{"put", "err", "d=-", "d=-", "--reason", "x"}},
		{128, "needs a name", []string{"put", "err", "-", "--reason", "x"}},
		{1, "no such file", []string{"put", "err", "/nonexistent/d", "--reason", "x"}},
		{1, "control characters", []string{"put", "a\x01", "d=-", "--reason", "x"}},
		{75, `bundle "err" is at version 1, not 0`, []string{"put", "err", "d=-", "--reason", "x", "--expect", "0"}},
		{75, `bundle "err" is at version 1, not 7`, []string{"rollback", "err", "1", "--reason", "x", "--expect", "7"}},
		{1, `no bundle "none"`, []string{"get", "none"}},
		{1, `no bundle "none"`, []string{"history", "none"}},
		{1, "unknown bundle", []string{"watch", "none"}},
		{1, "no version 9", []string{"get", "err", "--version", "9"}},
		{1, "has no document x", []string{"get", "err", "--document", "x"}},
		{1, "no version 9", []string{"diff", "err", "9"}},
		{1, "no version 9", []string{"rollback", "err", "9", "--reason", "x"}},
		{128, "bad version", []string{"rollback", "err", "zero", "--reason", "x"}},
		{128, "bad version", []string{"diff", "err", "0"}},
		{128, "--reason is missing", []string{"rollback", "err", "1"}},
		{4, "unsupported output format", []string{"get", "err", "-w", "protobuf"}},
		{1, "err has no schema for all documents", []string{"schema", "get", "err"}},
		{1, "the schema does not parse", []string{"schema", "set", "err", filepath.Join(empty, "bad")}},
		{128, "is empty", []string{"schema", "set", "err", filepath.Join(empty, "empty")}},
	} {
		r := start(t, options{}, append([]string{"cfg"}, c.args...)...)
		r.wantCode(t, c.code)
		r.wantOneLine(t, c.text)
	}
	dead := freeAddr()
	for _, args := range [][]string{{"get", "err"}, {"put", "err", "d=-", "--reason", "x"}, {"watch", "err"},
		{"status", "err"}} {
		r := start(t, options{},
			append([]string{"--endpoints", dead, "--dial-timeout", "500ms", "--command-timeout", "500ms", "cfg"},
				args...)...)
		r.wantCode(t, 1)
		r.wantOneLine(t, "no answer from the cluster (endpoints "+dead+")")
		if unknown := strings.Contains(r.err.String(), "not known whether"); unknown != (args[0] == "put") {
			t.Errorf("%v: %q", args, &r.err)
		}
	}
}

func TestCfgSchema(t *testing.T) {
	const schema = `{"properties":{"port":{"type":"integer"}}}`
	dir := write(t, "schema", schema)
	ok(t, "cfg", "schema", "set", "schema", filepath.Join(dir, "schema"), "--reason", "ports", "--author", "ann")
	okWith(t, options{stdin: `{"type":"array"}`}, "cfg", "schema", "set", "schema", "-", "--document", "list.json")
	if got := ok(t, "cfg", "schema", "get", "schema"); got != schema {
		t.Errorf("schema get printed %q", got)
	}
	if got := ok(t, "cfg", "schema", "get", "schema", "--document", "list.json"); got != `{"type":"array"}` {
		t.Errorf("schema get printed %q", got)
	}
	if got := ok(t, "cfg", "schema", "get", "schema", "-w", "json"); !strings.Contains(got, `"schema":`+schema) || !strings.Contains(got, `"reason":"ports"`) {
		t.Errorf("schema get printed %q", got)
	}
	r := start(t, options{stdin: `{"port":"high"}`}, "cfg", "put", "schema", "a.json=-", "--reason", "x")
	r.wantCode(t, 1)
	r.wantOneLine(t, `document "a.json" at "/port": got string, want integer`)
	ok(t, "cfg", "schema", "rm", "schema")
	cfgPut(t, "schema", "a.json", `{"port":"high"}`)
	r = start(t, options{}, "cfg", "schema", "set", "schema", filepath.Join(dir, "schema"))
	r.wantCode(t, 1)
	r.wantOneLine(t, `at "/port"`)
}

func TestCfgWatch(t *testing.T) {
	cfgPut(t, "watched", "d", "1")
	lines := start(t, options{}, "cfg", "watch", "watched")
	forms := start(t, options{}, "cfg", "watch", "watched", "-w", "json")
	lines.waitOut(t, "version 1 at revision ")
	forms.waitOut(t, `"documents":{"d":"1"}`)
	cfgPut(t, "watched", "d", "2", "--author", "bob")
	lines.waitOut(t, "version 2 at revision ")
	lines.waitOut(t, ", bob: test\n")
	forms.waitOut(t, `"documents":{"d":"2"}`)
	for _, r := range []*run{lines, forms} {
		r.signal(t, syscall.SIGINT)
		r.wantCode(t, 0)
		if n := strings.Count(r.out.String(), "\n"); n != 2 {
			t.Errorf("%q has %d lines", &r.out, n)
		}
	}
}

func TestCfgStatus(t *testing.T) {
	status := &coordv1.ConfigStatus{Client: "node/1", Seen: 4, Applied: 3, Error: "max\nis -1"}
	reports := coordv1.NewConfigClient(newClient(t).ActiveConnection())
	if _, err := reports.Report(t.Context(), &coordv1.ConfigReportRequest{Bundle: "stat", Status: status}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(ok(t, "cfg", "status", "stat"), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(lines[1])[:3], " ") != "node/1 4 3" || !strings.HasSuffix(lines[1], `"max\nis -1"`) {
		t.Errorf("status printed %q", lines)
	}
	if got := ok(t, "cfg", "status", "stat", "-w", "yaml"); !strings.Contains(got, "applied: 3") {
		t.Errorf("status printed %q", got)
	}
}
