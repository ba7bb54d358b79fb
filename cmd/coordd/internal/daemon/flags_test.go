package daemon

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/coord"
)

// parse parses a command line and environment that must be accepted.
func parse(t *testing.T, args, environ []string) coord.Config {
	t.Helper()
	o, err := Parse(args, environ)
	if err != nil {
		t.Fatalf("%q %q: %v", args, environ, err)
	}
	return o.Config
}

func TestNoFlags(t *testing.T) {
	var want coord.Config
	want.EnsureDefaults()
	if got := parse(t, nil, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("configuration is\n%+v, want\n%+v", got, want)
	}
}

// everyFlag gives each flag a value that is not its default.
var everyFlag = map[string]string{
	"name": "b", "data-dir": "/d", "wal-dir": "/w",
	"listen-client-urls": "http://127.0.0.1:1, http://[::1]:2", "advertise-client-urls": "http://h:1,http://h:2",
	"listen-peer-urls": "http://0.0.0.0:3", "initial-advertise-peer-urls": "http://h:3",
	"initial-cluster": "a=http://h:9,b=http://h:3", "initial-cluster-state": "existing", "initial-cluster-token": "t",
	"heartbeat-interval": "70", "election-timeout": "700", "snapshot-count": "5",
	"max-request-bytes": "1000", "max-txn-ops": "7", "quota-backend-bytes": "-1", "disk-reserve-bytes": "12345",
	"client-memory-bytes": "23456789",
	"listen-dns":          "127.0.0.1:53", "dns-ttl": "7s", "service-probes": "false",
	"probe-deny": "10.0.0.0/8, fd00::/8", "probe-allow": "10.1.0.1",
	"watch-progress-notify-interval": "1m30s", "log-level": "debug", "log-format": "console",
}

var everyField = coord.Config{
	Name: "b", DataDir: "/d", WALDir: "/w",
	ListenClientURLs:    []string{"http://127.0.0.1:1", "http://[::1]:2"},
	AdvertiseClientURLs: []string{"http://h:1", "http://h:2"},
	ListenPeerURLs:      []string{"http://0.0.0.0:3"}, InitialAdvertisePeerURLs: []string{"http://h:3"},
	InitialCluster: "a=http://h:9,b=http://h:3", ClusterState: "existing", ClusterToken: "t",
	HeartbeatInterval: 70 * time.Millisecond, ElectionTimeout: 700 * time.Millisecond, SnapshotCount: 5,
	MaxRequestBytes: 1000, MaxTxnOps: 7, QuotaBackendBytes: -1, DiskReserve: 12345, ClientMemoryBytes: 23456789,
	ListenDNS: "127.0.0.1:53", DNSTTL: 7 * time.Second, NoServiceProbes: true,
	ProbeDeny: []string{"10.0.0.0/8", "fd00::/8"}, ProbeAllow: []string{"10.1.0.1"},
	WatchProgressNotifyInterval: 90 * time.Second, LogLevel: "debug", LogFormat: "console",
}

// flagless is the number of fields that have no flag: StreamLimits and OnFatal.
const flagless = 2

func TestEveryFlagAndVariable(t *testing.T) {
	count := 0
	for _, section := range sections {
		count += len(section.settings)
	}
	if count != len(everyFlag) || count+flagless != reflect.TypeFor[coord.Config]().NumField() {
		t.Errorf("there are %d flags, %d of them tested, for %d fields", count, len(everyFlag),
			reflect.TypeFor[coord.Config]().NumField())
	}
	for style, write := range map[string]func(name, value string) []string{
		"-x=v":  func(name, value string) []string { return []string{"-" + name + "=" + value} },
		"--x=v": func(name, value string) []string { return []string{"--" + name + "=" + value} },
		"-x v":  func(name, value string) []string { return []string{"-" + name, value} },
		"--x v": func(name, value string) []string { return []string{"--" + name, value} },
	} {
		var args []string
		for name, value := range everyFlag {
			args = append(args, write(name, value)...)
		}
		if got := parse(t, args, nil); !reflect.DeepEqual(got, everyField) {
			t.Errorf("%s: configuration is\n%+v, want\n%+v", style, got, everyField)
		}
	}
	for _, prefix := range envPrefixes {
		environ := []string{"PATH=/bin"}
		for name, value := range everyFlag {
			environ = append(environ, prefix+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
		}
		if got := parse(t, nil, environ); !reflect.DeepEqual(got, everyField) {
			t.Errorf("%s: configuration is\n%+v, want\n%+v", prefix, got, everyField)
		}
	}
}

func TestPrecedence(t *testing.T) {
	environ := []string{"ETCD_NAME=etcd", "COORD_NAME=coord", "ETCD_LOG_LEVEL=warn", "COORD_LOG_LEVEL=",
		"COORD_LOG_FORMAT=console"}
	c := parse(t, []string{"--log-format=json"}, environ)
	if c.Name != "coord" || c.LogLevel != "warn" || c.LogFormat != "json" {
		t.Errorf("name %s, level %s, format %s; want coord, warn, json", c.Name, c.LogLevel, c.LogFormat)
	}
	if c := parse(t, []string{"--name=a", "--name", "b", "-name=c"}, environ); c.Name != "c" {
		t.Errorf("of a repeated flag %s counted, want the last", c.Name)
	}
	if c := parse(t, []string{"--name="}, environ); c.Name != "default" {
		t.Errorf("an empty flag gave name %s: it counts, and means the default", c.Name)
	}
}

func TestZeroMeansDefault(t *testing.T) {
	c := parse(t, []string{"--snapshot-count=0", "--quota-backend-bytes=0", "--watch-progress-notify-interval=0"}, nil)
	if c.SnapshotCount != 10000 || c.QuotaBackendBytes != 2<<30 || c.WatchProgressNotifyInterval != 10*time.Minute {
		t.Errorf("snapshot count %d, quota %d, interval %v", c.SnapshotCount, c.QuotaBackendBytes,
			c.WatchProgressNotifyInterval)
	}
}

func TestBadInput(t *testing.T) {
	for _, tc := range []struct {
		args, environ, want string
	}{
		{"--frobnicate", "", "unknown flag --frobnicate (coordd --help lists the flags)"},
		{"-frobnicate=1", "", "unknown flag --frobnicate (coordd --help lists the flags)"},
		{"---name=a", "", "bad flag syntax: ---name=a"},
		{"start", "", `"start" is not a valid flag`},
		{"--name a b", "", `"b" is not a valid flag`},
		{"--name", "", "flag --name needs a value"},
		{"--heartbeat-interval=fast", "", `invalid value "fast" for flag --heartbeat-interval: must be a whole number of milliseconds above 0`},
		{"--heartbeat-interval=100ms", "", `invalid value "100ms" for flag --heartbeat-interval: must be a whole number of milliseconds above 0`},
		{"--election-timeout=0", "", `invalid value "0" for flag --election-timeout: must be a whole number of milliseconds above 0`},
		{"--snapshot-count=-1", "", `invalid value "-1" for flag --snapshot-count: must be a whole number, 0 means the default`},
		{"--max-txn-ops=0", "", `invalid value "0" for flag --max-txn-ops: must be a whole number above 0`},
		{"--quota-backend-bytes=2GB", "", `invalid value "2GB" for flag --quota-backend-bytes: must be a whole number of bytes, at most 9223372036854775807`},
		{"--watch-progress-notify-interval=10", "", `invalid value "10" for flag --watch-progress-notify-interval: must be a duration such as 10m or 500ms`},
		{"", "ETCD_HEARTBEAT_INTERVAL=x", `invalid value "x" for ETCD_HEARTBEAT_INTERVAL: must be a whole number of milliseconds above 0`},
		{"--listen-client-urls=", "", `--listen-client-urls "": empty URL, must be http://HOST:PORT`},
		{"--listen-peer-urls=127.0.0.1", "", `--listen-peer-urls "127.0.0.1": scheme must be http`},
		{"--version=maybe", "", `invalid boolean value "maybe" for -version: parse error`},
	} {
		_, err := Parse(strings.Fields(tc.args), strings.Fields(tc.environ))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s %s: error is\n%v, want\n%s", tc.args, tc.environ, err, tc.want)
		}
	}
}

func TestHelpAndVersionGoFirst(t *testing.T) {
	bad := []string{"COORD_HEARTBEAT_INTERVAL=x"}
	for _, arg := range []string{"-h", "--help", "-help"} {
		if o, err := Parse([]string{arg}, bad); err != nil || !o.Help {
			t.Errorf("%s: %+v, %v", arg, o, err)
		}
	}
	if o, err := Parse([]string{"--version"}, bad); err != nil || !o.Version {
		t.Errorf("--version: %+v, %v", o, err)
	}
}

func TestUnknownVariables(t *testing.T) {
	o, err := Parse(nil,
		[]string{"ETCD_NAMES=x", "COORD_NO=y", "COORDCTL_ENDPOINTS=z", "ETCDCTL_API=3", "HOME=/", "COORD_NAME=n",
			"odd"})
	if want := []string{"COORD_NO", "ETCD_NAMES"}; err != nil || !reflect.DeepEqual(o.Unknown, want) {
		t.Errorf("unknown variables are %q, %v; want %q", o.Unknown, err, want)
	}
}
