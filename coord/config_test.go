package coord

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// three is a valid member of a cluster of three.
func three() Config {
	return Config{
		Name:                     "a",
		ListenClientURLs:         []string{"http://127.0.0.1:12379"},
		AdvertiseClientURLs:      []string{"http://127.0.0.1:12379"},
		ListenPeerURLs:           []string{"http://127.0.0.1:12380"},
		InitialAdvertisePeerURLs: []string{"http://127.0.0.1:12380"},
		InitialCluster:           "a=http://127.0.0.1:12380,b=http://127.0.0.1:22380,c=http://127.0.0.1:32380",
	}
}

func TestZeroConfigIsAWorkingSingleMember(t *testing.T) {
	var c Config
	c.EnsureDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "default", DataDir: "default.coord",
		ListenClientURLs:         []string{"http://127.0.0.1:2379"},
		AdvertiseClientURLs:      []string{"http://127.0.0.1:2379"},
		ListenPeerURLs:           []string{"http://127.0.0.1:2380"},
		InitialAdvertisePeerURLs: []string{"http://127.0.0.1:2380"},
		InitialCluster:           "default=http://127.0.0.1:2380",
		ClusterState:             "new", ClusterToken: "etcd-cluster",
		HeartbeatInterval: 50 * time.Millisecond, ElectionTimeout: 300 * time.Millisecond,
		SnapshotCount: 10000, MaxRequestBytes: 1572864, MaxTxnOps: 128,
		WatchProgressNotifyInterval: 10 * time.Minute,
		QuotaBackendBytes:           2147483648, DiskReserve: 67108864, ClientMemoryBytes: 268435456,
		LogLevel: "info", LogFormat: "json",
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults are\n%+v, want\n%+v", c, want)
	}
	again := c
	again.EnsureDefaults()
	if !reflect.DeepEqual(again, c) {
		t.Errorf("filling defaults twice changed them: %+v", again)
	}
}

func TestDefaultsFollowWhatIsGiven(t *testing.T) {
	c := Config{
		Name: "m1", ListenClientURLs: []string{"http://127.0.0.1:7001"},
		ListenPeerURLs: []string{"http://127.0.0.1:7002", "http://127.0.0.1:7003"}, QuotaBackendBytes: -1,
		DiskReserve: -1,
	}
	c.EnsureDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if got, want := c.DataDir, "m1.coord"; got != want {
		t.Errorf("data directory is %q, want %q", got, want)
	}
	if got, want := c.InitialCluster, "m1=http://127.0.0.1:7002,m1=http://127.0.0.1:7003"; got != want {
		t.Errorf("initial cluster is %q, want %q", got, want)
	}
	if got, want := strings.Join(c.AdvertiseClientURLs, ","), "http://127.0.0.1:7001"; got != want {
		t.Errorf("advertised client URLs are %q, want %q", got, want)
	}
	if c.QuotaBackendBytes != -1 || c.DiskReserve != -1 {
		t.Errorf("a negative quota %d or reserve %d was replaced", c.QuotaBackendBytes, c.DiskReserve)
	}
}

func TestValidConfigs(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"three members": func(c *Config) {},
		"listen on every address": func(c *Config) {
			c.ListenPeerURLs = []string{"http://0.0.0.0:12380"}
			c.ListenClientURLs = []string{"http://[::]:12379"}
		},
		"localhost is 127.0.0.1": func(c *Config) { c.InitialAdvertisePeerURLs = []string{"http://localhost:12380"} },
		"several URLs of one name": func(c *Config) {
			c.InitialAdvertisePeerURLs = []string{"http://127.0.0.1:12381", "http://127.0.0.1:12380"}
			c.InitialCluster += ",a=http://127.0.0.1:12381"
		},
		"https to clients behind a proxy": func(c *Config) {
			c.AdvertiseClientURLs = []string{"https://coord.example.com:443"}
		},
		"existing does not compare addresses": func(c *Config) {
			c.ClusterState, c.InitialAdvertisePeerURLs = "existing", []string{"http://127.0.0.1:9"}
		},
		"empty parts of the list": func(c *Config) { c.InitialCluster = "," + c.InitialCluster + ", ," },
		"five heartbeats exactly": func(c *Config) { c.HeartbeatInterval = 60 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			c := three()
			change(&c)
			c.EnsureDefaults()
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInvalidConfigs(t *testing.T) {
	ms := time.Millisecond
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"not a URL":        {func(c *Config) { c.ListenPeerURLs = []string{"http://[::1"} }, `--listen-peer-urls "http://[::1": not a URL: missing ']' in host`},
		"empty URL":        {func(c *Config) { c.ListenPeerURLs = []string{""} }, `--listen-peer-urls "": empty URL, must be http://HOST:PORT`},
		"no scheme":        {func(c *Config) { c.ListenClientURLs = []string{"127.0.0.1:2379"} }, `--listen-client-urls "127.0.0.1:2379": not a URL: first path segment in URL cannot contain colon`},
		"TLS":              {func(c *Config) { c.ListenClientURLs = []string{"https://127.0.0.1:2379"} }, `--listen-client-urls "https://127.0.0.1:2379": scheme must be http`},
		"other scheme":     {func(c *Config) { c.AdvertiseClientURLs = []string{"ftp://h:1"} }, `--advertise-client-urls "ftp://h:1": scheme must be http or https`},
		"no port":          {func(c *Config) { c.ListenClientURLs = []string{"http://127.0.0.1"} }, `--listen-client-urls "http://127.0.0.1": address must have the form "host:port"`},
		"empty port":       {func(c *Config) { c.ListenClientURLs = []string{"http://127.0.0.1:"} }, `--listen-client-urls "http://127.0.0.1:": address must have the form "host:port"`},
		"port too large":   {func(c *Config) { c.ListenClientURLs = []string{"http://127.0.0.1:65536"} }, `--listen-client-urls "http://127.0.0.1:65536": port 65536 is not between 1 and 65535`},
		"port 0 told":      {func(c *Config) { c.AdvertiseClientURLs = []string{"http://h:0"} }, `--advertise-client-urls "http://h:0": port 0 is not between 1 and 65535`},
		"path":             {func(c *Config) { c.ListenClientURLs = []string{"http://127.0.0.1:1/x"} }, `--listen-client-urls "http://127.0.0.1:1/x": URL must not contain a path, a query or a user, only http://HOST:PORT`},
		"name to listen":   {func(c *Config) { c.ListenPeerURLs = []string{"http://example.com:1"} }, `--listen-peer-urls "http://example.com:1": host must be an IP address or localhost to listen on, not the name example.com`},
		"no host":          {func(c *Config) { c.ListenPeerURLs = []string{"http://:1"} }, `--listen-peer-urls "http://:1": host is empty, must be an address such as 127.0.0.1`},
		"given twice":      {func(c *Config) { c.ListenPeerURLs = []string{"http://127.0.0.1:1", "http://127.0.0.1:1"} }, `--listen-peer-urls: http://127.0.0.1:1 is given twice`},
		"one port for two": {func(c *Config) { c.ListenPeerURLs = []string{"http://localhost:12379"} }, `--listen-client-urls and --listen-peer-urls both have http://localhost:12379: clients and peers need a port each`},
		"wildcard peer":    {func(c *Config) { c.InitialAdvertisePeerURLs = []string{"http://0.0.0.0:1"} }, `--initial-advertise-peer-urls "http://0.0.0.0:1": 0.0.0.0 stands for every address of this machine, other members need one to connect to`},
		"wildcard unsaid": {func(c *Config) {
			c.ListenPeerURLs, c.InitialAdvertisePeerURLs = []string{"http://0.0.0.0:12380"}, nil
		},
			`--initial-advertise-peer-urls is required when --listen-peer-urls is a wildcard address (http://0.0.0.0:12380)`},
		"clients not told":     {func(c *Config) { c.AdvertiseClientURLs = nil }, `--advertise-client-urls is required when --listen-client-urls is set explicitly (to http://127.0.0.1:12379)`},
		"name missing":         {func(c *Config) { c.Name = "d" }, `couldn't find local name "d" in the initial cluster configuration (--initial-cluster=` + three().InitialCluster + `)`},
		"name with comma":      {func(c *Config) { c.Name = "a,b" }, `--name "a,b": a name must not contain a comma or an equals sign, as --initial-cluster could not name it`},
		"pair without name":    {func(c *Config) { c.InitialCluster = "http://127.0.0.1:1" }, `--initial-cluster "http://127.0.0.1:1": "http://127.0.0.1:1" must have the form NAME=URL`},
		"pair with bad URL":    {func(c *Config) { c.InitialCluster += ",d=http://x" }, `--initial-cluster: member "d" has peer URL "http://x": address must have the form "host:port"`},
		"one address twice":    {func(c *Config) { c.InitialCluster += ",d=http://localhost:22380" }, `--initial-cluster has duplicate url`},
		"one name twice":       {func(c *Config) { c.InitialCluster += ",a=http://127.0.0.1:42380" }, `--initial-cluster has a=http://127.0.0.1:42380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:12380`},
		"same pair twice":      {func(c *Config) { c.InitialCluster += ",a=http://127.0.0.1:12380" }, `--initial-cluster has duplicate url http://127.0.0.1:12380 for member "a"`},
		"advertised elsewhere": {func(c *Config) { c.InitialAdvertisePeerURLs = append(c.InitialAdvertisePeerURLs, "http://127.0.0.1:9") }, `--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from --initial-cluster=` + three().InitialCluster},
		"state":                {func(c *Config) { c.ClusterState = "old" }, `--initial-cluster-state "old" is unknown: must be one of new, existing`},
		"dns without port":     {func(c *Config) { c.ListenDNS = "127.0.0.1" }, `--listen-dns "127.0.0.1" must be IP:PORT`},
		"dns by name":          {func(c *Config) { c.ListenDNS = "localhost:53" }, `--listen-dns "localhost:53" must be IP:PORT`},
		"dns TTL fraction":     {func(c *Config) { c.DNSTTL = 1500 * ms }, `--dns-ttl must be a whole number of seconds between 0s and 24h0m0s (set to 1.5s)`},
		"dns TTL too long":     {func(c *Config) { c.DNSTTL = 25 * time.Hour }, `--dns-ttl must be a whole number of seconds between 0s and 24h0m0s (set to 25h0m0s)`},
		"heartbeat":            {func(c *Config) { c.HeartbeatInterval = -ms }, `--heartbeat-interval must be a whole number of milliseconds above 0 (set to -1ms)`},
		"heartbeat fraction":   {func(c *Config) { c.HeartbeatInterval = 1500 * time.Microsecond }, `--heartbeat-interval must be a whole number of milliseconds above 0 (set to 1.5ms)`},
		"election":             {func(c *Config) { c.ElectionTimeout = -ms }, `--election-timeout must be a whole number of milliseconds above 0 (set to -1ms)`},
		"election too short":   {func(c *Config) { c.HeartbeatInterval, c.ElectionTimeout = 100*ms, 499*ms }, `--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]`},
		"election too long":    {func(c *Config) { c.ElectionTimeout = 50001 * ms }, `--election-timeout[50001ms] is too long, and should be set less than 50000ms`},
		"progress":             {func(c *Config) { c.WatchProgressNotifyInterval = 99 * ms }, `--watch-progress-notify-interval must be at least 100ms (set to 99ms)`},
		"request size":         {func(c *Config) { c.MaxRequestBytes = 1 << 30 }, `--max-request-bytes must be at most 16777216 (set to 1073741824)`},
		"txn size":             {func(c *Config) { c.MaxTxnOps = 1 << 40 }, `--max-txn-ops must be at most 2147483647 (set to 1099511627776)`},
		"log level":            {func(c *Config) { c.LogLevel = "loud" }, `--log-level "loud" is unknown: must be one of debug, info, warn, error, panic, fatal`},
		"log format":           {func(c *Config) { c.LogFormat = "xml" }, `--log-format "xml" is unknown: must be one of json, console`},
		"wal in data":          {func(c *Config) { c.DataDir, c.WALDir = "/x", "/x" }, `--wal-dir "/x" must not be the data directory itself`},
	} {
		t.Run(name, func(t *testing.T) {
			c := three()
			tc.change(&c)
			c.EnsureDefaults()
			err := c.Validate()
			if err == nil {
				t.Fatalf("accepted, want %q", tc.want)
			}
			if got := err.Error(); !strings.HasPrefix(got, tc.want) || strings.Contains(got, "\n") {
				t.Errorf("error is\n%s, want\n%s", got, tc.want)
			}
		})
	}
}

func TestOneAddressForTwoMembersNamesBoth(t *testing.T) {
	for range 20 { // the members come out of a map
		c := three()
		c.InitialCluster += ",d=http://127.0.0.1:22380"
		c.EnsureDefaults()
		want := `--initial-cluster has duplicate url http://127.0.0.1:22380 for members "b" and "d": each member needs its own`
		if err := c.Validate(); err == nil || err.Error() != want {
			t.Fatalf("error is\n%v, want\n%s", err, want)
		}
	}
}

// TestIdsAreEtcds compares the ids with those etcd computes from the same flags.
func TestIdsAreEtcds(t *testing.T) {
	c := three()
	c.InitialCluster += ",b=http://127.0.0.1:22379"
	c.ClusterToken = "tkn"
	c.EnsureDefaults()
	urls, err := types.NewURLsMap(c.InitialCluster)
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := membership.NewClusterFromURLsMap(zap.NewNop(), c.ClusterToken, urls)
	if err != nil {
		t.Fatal(err)
	}
	members, err := c.InitialMembers()
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 3 {
		t.Fatalf("got %d members, want 3", len(members))
	}
	var ids []uint64
	for _, m := range members {
		ids = append(ids, m.ID)
		if want := uint64(etcd.MemberByName(m.Name).ID); m.ID != want {
			t.Errorf("member %s has id %x, etcd gives it %x", m.Name, m.ID, want)
		}
	}
	slices.Reverse(ids)
	if got, want := ClusterID(ids), uint64(etcd.ID()); got != want {
		t.Errorf("cluster id is %x, etcd's is %x", got, want)
	}
	now := time.Unix(1700000000, 5)
	added := membership.NewMemberAsLearner("", types.MustNewURLs([]string{"http://h:2", "http://h:1"}), "tkn", &now)
	if got, want := MemberID([]string{"http://h:2", "http://h:1"}, "tkn", &now), uint64(added.ID); got != want {
		t.Errorf("added member has id %x, etcd gives it %x", got, want)
	}
}

func TestLocalMember(t *testing.T) {
	c := three()
	if m, ok := c.LocalMember(); !ok || m.Name != "a" || m.PeerURLs[0] != "http://127.0.0.1:12380" {
		t.Errorf("local member is %+v, %v", m, ok)
	}
	c.Name = "d"
	if m, ok := c.LocalMember(); ok {
		t.Errorf("found %+v for a name that is not in the cluster", m)
	}
}

func TestExpectedIdentity(t *testing.T) {
	c := three()
	c.EnsureDefaults()
	members, err := c.InitialMembers()
	if err != nil {
		t.Fatal(err)
	}
	id := c.ExpectedIdentity()
	if want := ClusterID([]uint64{members[0].ID, members[1].ID, members[2].ID}); id.ClusterID != want ||
		id.MemberID != 0 || id.Name != "a" || id.PeerURLs[0] != "http://127.0.0.1:12380" {
		t.Errorf("a founding member expects %+v", id)
	}
	c.ClusterState = ClusterStateExisting
	if id := c.ExpectedIdentity(); id.ClusterID != 0 || id.Name != "a" {
		t.Errorf("a joining member expects %+v", id)
	}
}
