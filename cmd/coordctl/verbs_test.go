//go:build unix

package main_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestKeyValueVerbs(t *testing.T) {
	if got := ok(t, "put", "verbs/a", "1"); got != "OK\n" {
		t.Errorf("put printed %q", got)
	}
	if got := ok(t, "get", "verbs/a"); got != "verbs/a\n1\n" {
		t.Errorf("get printed %q", got)
	}
	var resp struct {
		Header struct{ Revision int64 }
		Kvs    []struct{ Key, Value []byte }
		Count  int
	}
	if err := json.Unmarshal([]byte(ok(t, "get", "verbs/a", "-w", "json")), &resp); err != nil {
		t.Fatal(err)
	}
	if resp.Count != 1 || string(resp.Kvs[0].Value) != "1" || resp.Header.Revision == 0 {
		t.Errorf("get -w json gave %+v", resp)
	}
	if got := ok(t, "get", "verbs/a", "-w", "fields"); !strings.Contains(got, `"Value" : "1"`) {
		t.Errorf("get -w fields printed %q", got)
	}
	if got := ok(t, "del", "verbs/", "--prefix"); got != "1\n" {
		t.Errorf("del printed %q", got)
	}
	if got := okWith(t, options{stdin: "from stdin"}, "put", "verbs/in"); got != "OK\n" {
		t.Errorf("put from standard input printed %q", got)
	}
	if got := ok(t, "get", "verbs/in", "--print-value-only"); got != "from stdin\n" {
		t.Errorf("get printed %q", got)
	}
}

func TestTxnVerb(t *testing.T) {
	ok(t, "put", "txn/a", "1")
	script := "value(\"txn/a\") = \"1\"\n\nput txn/b yes\nget txn/a\n\nput txn/b no\n\n"
	if got := okWith(t, options{stdin: script}, "txn"); got != "SUCCESS\n\nOK\n\ntxn/a\n1\n" {
		t.Errorf("txn printed %q", got)
	}
	if got := ok(t, "get", "txn/b", "--print-value-only"); got != "yes\n" {
		t.Errorf("txn wrote %q", got)
	}
}

func TestWatchVerb(t *testing.T) {
	w := start(t, options{}, "watch", "watched/", "--prefix", "--rev", "1")
	ok(t, "put", "watched/a", "1")
	w.waitOut(t, "PUT\nwatched/a\n1\n")
	w.signal(t, syscall.SIGINT)
	w.code(t)

	w = start(t, options{}, "watch", "watched/", "--prefix", "--rev", "1", "--", "sh", "-c", "echo saw $ETCD_WATCH_KEY")
	w.waitOut(t, `saw "watched/a"`)
}

func TestLeaseVerbs(t *testing.T) {
	granted := strings.Fields(ok(t, "lease", "grant", "60")) // lease ID granted with TTL(60s)
	if len(granted) < 2 {
		t.Fatalf("lease grant printed %q", granted)
	}
	id := granted[1]
	ok(t, "put", "leased", "1", "--lease="+id)
	if got := ok(t, "lease", "timetolive", id, "--keys"); !strings.Contains(got, "leased") {
		t.Errorf("lease timetolive printed %q", got)
	}
	if got := ok(t, "lease", "keep-alive", "--once", id); !strings.Contains(got, "keepalived with TTL(60)") {
		t.Errorf("lease keep-alive printed %q", got)
	}
	ok(t, "lease", "revoke", id)
	if got := ok(t, "get", "leased"); got != "" {
		t.Errorf("the key outlived its lease: %q", got)
	}
}

func TestClusterVerbs(t *testing.T) {
	if got := ok(t, "member", "list"); !strings.Contains(got, "started") {
		t.Errorf("member list printed %q", got)
	}
	if got := ok(t, "endpoint", "health", "-w", "json"); !strings.Contains(got, `"health":true`) {
		t.Errorf("endpoint health printed %q", got)
	}
	if got := ok(t, "endpoint", "status", "-w", "table"); !strings.Contains(got, endpoint(t)) {
		t.Errorf("endpoint status printed %q", got)
	}
	if got := ok(t, "mem", "list", "-w", "table"); !strings.Contains(got, "started") {
		t.Errorf("the prefix of a command printed %q", got)
	}
}

func TestOutputFormatsRefusedAsEtcdctl(t *testing.T) {
	for _, args := range [][]string{
		{"get", "k", "-w", "yaml"}, {"get", "k", "-w", "table"}, {"lock", "formats", "-w", "yaml"},
		{"lock", "formats", "-w", "table"},
	} {
		r := start(t, options{}, args...)
		r.wantCode(t, 4)
		r.wantOneLine(t, "output format")
	}
	if q := queueOf(t, newClient(t), "formats"); len(q) != 0 {
		t.Errorf("the refused lock left %v", q)
	}
}

func TestEnvironmentPrecedence(t *testing.T) {
	good, bad := endpoint(t), freeAddr()
	for _, c := range []struct {
		name string
		env  []string
		args []string
		ok   bool
	}{
		{"coordctl", []string{"COORDCTL_ENDPOINTS=" + good}, nil, true},
		{"etcdctl", []string{"ETCDCTL_ENDPOINTS=" + good}, nil, true},
		{"coordctl beats etcdctl", []string{"COORDCTL_ENDPOINTS=" + good, "ETCDCTL_ENDPOINTS=" + bad}, nil, true},
		{"etcdctl does not beat coordctl", []string{"COORDCTL_ENDPOINTS=" + bad, "ETCDCTL_ENDPOINTS=" + good}, nil,
			false},
		{"flag beats both", []string{"COORDCTL_ENDPOINTS=" + bad, "ETCDCTL_ENDPOINTS=" + bad},
			[]string{"--endpoints", good}, true},
		{"flag beats a good etcdctl", []string{"ETCDCTL_ENDPOINTS=" + good}, []string{"--endpoints", bad}, false},
	} {
		for _, verb := range [][]string{{"get", "k"}, {"lock", "env", "--", "true"}} {
			t.Run(c.name+" "+verb[0], func(t *testing.T) {
				t.Parallel()
				env := append([]string{"COORDCTL_COMMAND_TIMEOUT=2s", "COORDCTL_DIAL_TIMEOUT=1s"}, c.env...)
				args := append(append([]string{}, c.args...), verb...)
				if c.ok {
					env[0] = "COORDCTL_COMMAND_TIMEOUT=30s"
				}
				r := start(t, options{env: env, noEndpoint: true}, args...)
				if got := r.code(t) == 0; got != c.ok {
					t.Errorf("%v %v: success %v, error output %q", env, args, got, &r.err)
				}
			})
		}
	}
}

func TestBadEnvironmentIsOneLine(t *testing.T) {
	r := start(t, options{env: []string{"ETCDCTL_DIAL_TIMEOUT=soon"}}, "get", "k")
	r.wantCode(t, 128)
	r.wantOneLine(t, "ETCDCTL_DIAL_TIMEOUT")
}

func TestVersion(t *testing.T) {
	lines := strings.Split(ok(t, "version"), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "coordctl version: ") || lines[0] == "coordctl version: " ||
		lines[1] != "API version: 3.7" {
		t.Errorf("version printed %q", lines)
	}
}

func TestCompletion(t *testing.T) {
	for shell, mark := range map[string]string{"bash": "__start_coordctl", "zsh": "#compdef coordctl",
		"fish": "complete -c coordctl", "powershell": "Register-ArgumentCompleter"} {
		if got := ok(t, "completion", shell); !strings.Contains(got, mark) {
			t.Errorf("completion %s lacks %q", shell, mark)
		}
	}
	r := start(t, options{}, "completion", "tcsh")
	r.wantCode(t, 1)
	r.wantOneLine(t, "tcsh")
}

func TestHelpNamesCoordctl(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"txn", "--help"}, {"snapshot", "save", "--help"}, {"lock", "--help"},
		{"alarm", "--help"}} {
		if got := ok(t, args...); strings.Contains(got, "etcdctl ") || !strings.Contains(got, "coordctl") {
			t.Errorf("%v speaks of another program:\n%s", args, got)
		}
	}
	if got := ok(t, "options"); !strings.Contains(got, "--endpoints") || !strings.Contains(got, "--cacert") {
		t.Errorf("options printed %q", got)
	}
}

func TestUnknownIsOneLine(t *testing.T) {
	for _, args := range [][]string{{"--nonsense"}, {"get", "--nonsense", "k"},
		{"lock", "x", "--ttl", "soon", "--", "true"}, {"lock", "x", "--try", "--wait", "1", "--", "true"}} {
		r := start(t, options{}, args...)
		r.wantCode(t, 1)
		r.wantOneLine(t, "Error: ")
	}
	r := start(t, options{}, "nonsense")
	r.wantCode(t, 1)
	if !strings.HasPrefix(r.err.String(), "Error: unknown command \"nonsense\"") {
		t.Errorf("unknown command: %q", &r.err)
	}
}

func TestUnreachableClusterIsOneLine(t *testing.T) {
	dead := freeAddr()
	global := []string{"--endpoints", dead, "--dial-timeout", "500ms", "--command-timeout", "500ms"}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"lock", "x", "--", "true"}, 75},
		{[]string{"lock", "x", "--try", "--", "true"}, 75},
		{[]string{"lock", "x", "--wait", "1", "--", "true"}, 75},
		{[]string{"elect", "x", "v", "--", "true"}, 75},
		{[]string{"elect", "-l", "x"}, 1},
	} {
		r := start(t, options{}, append(global, c.args...)...)
		r.wantCode(t, c.code)
		r.wantOneLine(t, dead)
	}
}

func atoi(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
