//go:build unix

package main_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestFormatsOfOurVerbs: JSON on a line and a YAML document say the same, and a table has a head in capitals.
func TestFormatsOfOurVerbs(t *testing.T) {
	s := newSession(t, "fmt1")
	acquire(t, s, "print/of/ours")
	cfgPut(t, "print", "d", "1\n")
	for _, args := range [][]string{
		{"version"}, {"sessions", "show", hexID(s)}, {"locks", "show", "print/of/ours"}, {"locks", "ls", "print/of/"},
		{"elections", "ls", "print/of/"}, {"why", "lock/print/of/none"}, {"cfg", "get", "print"},
		{"cfg", "history", "print"},
		{"cfg", "status", "print"}, {"service", "ls", "print"},
	} {
		var fromJSON, fromYAML any
		text := ok(t, append(args, "-w", "json")...)
		if err := json.Unmarshal([]byte(text), &fromJSON); err != nil || strings.Count(text, "\n") != 1 {
			t.Fatalf("%q -w json printed %q: %v", args, text, err)
		}
		text = ok(t, append(args, "-w", "yaml")...)
		if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil || !strings.HasPrefix(text, "---\n") {
			t.Fatalf("%q -w yaml printed %q: %v", args, text, err)
		}
		if len(args) > 1 && args[1] == "show" { // which has how much is left of a TTL
			continue
		}
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Errorf("%q: JSON %v, YAML %v", args, fromJSON, fromYAML)
		}
	}
	wantLine(t, ok(t, "locks", "ls", "print/of/", "-w", "table"), "NAME", "KIND", "HOLDER", "TOKEN", "SESSION", "HOST",
		"SINCE", "WAITING")
}

func TestUnknownFormatNamesWhatThereIs(t *testing.T) {
	const ours, etcds = "there are simple, table, json and yaml", "there are simple, fields, json, protobuf and table"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"locks", "ls"}, ours}, {[]string{"service", "ls"}, ours}, {[]string{"cfg", "get", "x"}, ours},
		{[]string{"version"}, ours},
		{[]string{"get", "k"}, etcds}, {[]string{"member", "list"}, etcds},
		{[]string{"del", "--prefix", "print/none"}, etcds},
		{[]string{"lock", "print", "--", "true"}, "there are simple, fields, json and protobuf"},
	} {
		r := start(t, options{}, append([]string{"-w", "tabel"}, c.args...)...)
		r.wantCode(t, 4)
		r.wantOneLine(t, `unsupported output format "tabel": `+c.want)
	}
}
