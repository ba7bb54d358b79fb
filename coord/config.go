package coord

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coord-dev/coord/coord/internal/host"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/registry"
	"github.com/coord-dev/coord/coord/internal/stream"
)

// Defaults of the fields of Config that have one of their own.
const (
	DefaultName                        = "default"
	DefaultListenClientURL             = "http://127.0.0.1:2379"
	DefaultListenPeerURL               = "http://127.0.0.1:2380"
	DefaultClusterToken                = "etcd-cluster"
	DefaultHeartbeatInterval           = 50 * time.Millisecond
	DefaultElectionTimeout             = 300 * time.Millisecond
	DefaultSnapshotCount               = 10000
	DefaultMaxRequestBytes             = 3 << 19 // 1.5 MiB
	DefaultMaxTxnOps                   = 128
	DefaultWatchProgressNotifyInterval = 10 * time.Minute
	DefaultQuotaBackendBytes           = 2 << 30
	DefaultDiskReserve                 = 64 << 20
	DefaultClientMemoryBytes           = limit.DefaultBytes
	DefaultLogLevel                    = "info"
	DefaultLogFormat                   = LogFormatJSON
)

// Values of Config.ClusterState.
const (
	// ClusterStateNew: the members of InitialCluster found a new cluster together.
	ClusterStateNew = "new"
	// ClusterStateExisting: this member was added to a running cluster, which it now joins.
	ClusterStateExisting = "existing"
)

// Values of Config.LogFormat.
const (
	LogFormatJSON    = "json"
	LogFormatConsole = "console"
)

const (
	// maxElectionTimeout is etcd's upper bound.
	maxElectionTimeout = 50 * time.Second
	// minProgressInterval is etcd's lower bound of WatchProgressNotifyInterval.
	minProgressInterval = 100 * time.Millisecond
	maxDNSTTL           = 24 * time.Hour
	// maxRequestBytes keeps one request well inside what one log entry can carry between members.
	maxRequestBytes = 16 << 20
	// minClientMemory leaves each kind of what is held for clients a megabyte or more.
	minClientMemory = 16 << 20
)

// logLevels are the values of Config.LogLevel, least severe first.
var logLevels = []string{"debug", "info", "warn", "error", "panic", "fatal"}

// Config says how one member runs. Every field has the name and the meaning of etcd's flag of that name, and its zero
// value stands for the default. Call EnsureDefaults, then Validate; Start does both.
type Config struct {
	// Name is this member's name, by which it finds itself in InitialCluster. Default "default".
	Name string
	// DataDir holds everything the member stores, unless WALDir is set. Default "NAME.coord" in the working directory.
	DataDir string
	// WALDir, if set, holds the Raft log instead of a folder in DataDir. It must not be shared between members.
	WALDir string

	// ListenClientURLs are where clients are served: http://IP:PORT. Default http://127.0.0.1:2379.
	ListenClientURLs []string
	// AdvertiseClientURLs are told to clients. Default: ListenClientURLs, for a member alone that listens on an address
	// clients can reach; every other member that sets ListenClientURLs must set this too.
	AdvertiseClientURLs []string
	// ListenPeerURLs are where the other members are served: http://IP:PORT. Default http://127.0.0.1:2380.
	ListenPeerURLs []string
	// InitialAdvertisePeerURLs are told to the other members. They may differ from ListenPeerURLs. Default:
	// ListenPeerURLs, unless those are a wildcard address.
	InitialAdvertisePeerURLs []string

	// InitialCluster names the members that found or make up the cluster: NAME=URL, separated by commas; a name with
	// several URLs is written several times. Default: this member alone. Ignored once the data directory exists, except
	// to see that the directory belongs here.
	InitialCluster string
	// ClusterState is ClusterStateNew (the default) or ClusterStateExisting.
	ClusterState string
	// ClusterToken goes into the ids of the cluster and its members, so that clusters founded with the same addresses
	// can be told apart. Default "etcd-cluster".
	ClusterToken string

	// HeartbeatInterval is the time between a leader's heartbeats, in whole milliseconds. Default 50 ms.
	HeartbeatInterval time.Duration
	// ElectionTimeout is the time without a heartbeat after which a member campaigns: at least five heartbeats, at most
	// 50 s, in whole milliseconds. Default 300 ms.
	ElectionTimeout time.Duration
	// SnapshotCount is the number of log entries between snapshots. Default 10000.
	SnapshotCount uint64

	// MaxRequestBytes bounds one client request. Default 1.5 MiB, at most 16 MiB.
	MaxRequestBytes uint
	// MaxTxnOps bounds the operations of one transaction. Default 128.
	MaxTxnOps uint
	// WatchProgressNotifyInterval is the time between progress notifications on an idle watch: at least 100 ms.
	// Default 10 min.
	WatchProgressNotifyInterval time.Duration
	// QuotaBackendBytes is the size of the store from which on writes are refused. Default 2 GiB; negative: no quota.
	QuotaBackendBytes int64
	// DiskReserve is the free space, in bytes, below which writes are refused before the disk is really full. Default
	// 64 MiB, less on a small file system; negative: the disk is not watched.
	DiskReserve int64

	// ClientMemoryBytes bounds what this member holds in memory for all clients together, beside the replicated state:
	// watchers, channels, requests under way, what waits for slow clients. Default 256 MiB.
	ClientMemoryBytes int64
	// StreamLimits bound what one native stream may cost. They have no flag.
	StreamLimits stream.Limits

	// ListenDNS, if set, is where the service registry answers DNS, UDP and TCP: IP:PORT. Default: nowhere.
	ListenDNS string
	// DNSTTL is how long others may remember these answers, in whole seconds, at most a day. Default 0: they ask again.
	DNSTTL time.Duration
	// NoServiceProbes keeps this member from probing registered instances that ask for it while it leads.
	NoServiceProbes bool
	// ProbeDeny and ProbeAllow are addresses, or ranges such as 10.0.0.0/8, to which probes do not or do connect: the
	// longest range that holds an address decides. Denied by default are link-local addresses, those of clouds'
	// metadata services, multicast and unspecified ones, and this machine's loopback unless clients are served on
	// loopback alone.
	ProbeDeny, ProbeAllow []string

	// OnFatal is called with one line, logged before, when the member cannot go on and the process must end: its disk
	// failed, or what is in the log cannot be applied. It should not return. Nil: the process exits with status 1.
	OnFatal func(line string)

	// LogLevel is debug, info, warn, error, panic or fatal. Default info.
	LogLevel string
	// LogFormat is LogFormatJSON (the default) or LogFormatConsole.
	LogFormat string
}

// EnsureDefaults fills every field that is zero. It changes nothing else, so that Validate still sees what was given.
func (c *Config) EnsureDefaults() {
	setDefault(&c.Name, DefaultName)
	setDefault(&c.DataDir, c.Name+".coord")
	c.ensureURLs()
	setDefault(&c.InitialCluster, c.aloneInCluster())
	setDefault(&c.ClusterState, ClusterStateNew)
	setDefault(&c.ClusterToken, DefaultClusterToken)
	setDefault(&c.HeartbeatInterval, DefaultHeartbeatInterval)
	setDefault(&c.ElectionTimeout, DefaultElectionTimeout)
	setDefault(&c.SnapshotCount, DefaultSnapshotCount)
	setDefault(&c.MaxRequestBytes, DefaultMaxRequestBytes)
	setDefault(&c.MaxTxnOps, DefaultMaxTxnOps)
	setDefault(&c.WatchProgressNotifyInterval, DefaultWatchProgressNotifyInterval)
	setDefault(&c.QuotaBackendBytes, DefaultQuotaBackendBytes)
	setDefault(&c.DiskReserve, DefaultDiskReserve)
	setDefault(&c.ClientMemoryBytes, DefaultClientMemoryBytes)
	setDefault(&c.LogLevel, DefaultLogLevel)
	setDefault(&c.LogFormat, DefaultLogFormat)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ensureURLs fills the four lists of URLs. An advertised list is left empty where no default can be right; Validate
// then asks for it.
func (c *Config) ensureURLs() {
	listenGiven := len(c.ListenClientURLs) > 0
	if !listenGiven {
		c.ListenClientURLs = []string{DefaultListenClientURL}
	}
	if len(c.ListenPeerURLs) == 0 {
		c.ListenPeerURLs = []string{DefaultListenPeerURL}
	}
	if len(c.InitialAdvertisePeerURLs) == 0 && !anyWildcard(c.ListenPeerURLs) {
		c.InitialAdvertisePeerURLs = slices.Clone(c.ListenPeerURLs)
	}
	alone := c.InitialCluster == "" && c.ClusterState != ClusterStateExisting
	if len(c.AdvertiseClientURLs) == 0 && !anyWildcard(c.ListenClientURLs) && (alone || !listenGiven) {
		c.AdvertiseClientURLs = slices.Clone(c.ListenClientURLs)
	}
}

// aloneInCluster is the InitialCluster of a member that was told of no other.
func (c *Config) aloneInCluster() string {
	pairs := make([]string, len(c.InitialAdvertisePeerURLs))
	for i, u := range c.InitialAdvertisePeerURLs {
		pairs[i] = c.Name + "=" + u
	}
	return strings.Join(pairs, ",")
}

// Validate reports the first thing in a Config with its defaults filled that cannot work, in one line that names the
// flag, the value, and what is allowed. It looks at nothing outside of the Config.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.checkNames, c.checkURLs, c.checkTimes, c.checkSizes, c.checkRegistry, c.checkLogging, c.checkCluster,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkNames() error {
	if strings.ContainsAny(c.Name, ",=") {
		return fmt.Errorf("--name %q: a name must not contain a comma or an equals sign, as --initial-cluster could "+
			"not name it", c.Name)
	}
	if c.WALDir != "" && c.WALDir == c.DataDir {
		return fmt.Errorf("--wal-dir %q must not be the data directory itself", c.WALDir)
	}
	return checkOneOf("--initial-cluster-state", c.ClusterState, ClusterStateNew, ClusterStateExisting)
}

func (c *Config) checkURLs() error {
	for _, list := range []struct {
		flag string
		urls []string
		rule urlRule
	}{
		{"--listen-client-urls", c.ListenClientURLs, listenRule},
		{"--listen-peer-urls", c.ListenPeerURLs, listenRule},
		{"--advertise-client-urls", c.AdvertiseClientURLs, advertiseClientRule},
		{"--initial-advertise-peer-urls", c.InitialAdvertisePeerURLs, advertisePeerRule},
	} {
		if err := list.rule.checkAll(list.flag, list.urls); err != nil {
			return err
		}
	}
	if both := firstShared(c.ListenClientURLs, c.ListenPeerURLs); both != "" {
		return fmt.Errorf("--listen-client-urls and --listen-peer-urls both have %s: clients and peers need a "+
			"port each", both)
	}
	if len(c.AdvertiseClientURLs) == 0 {
		return fmt.Errorf("--advertise-client-urls is required when --listen-client-urls is set explicitly (to %s)",
			strings.Join(c.ListenClientURLs, ","))
	}
	if len(c.InitialAdvertisePeerURLs) == 0 {
		return fmt.Errorf("--initial-advertise-peer-urls is required when --listen-peer-urls is a wildcard "+
			"address (%s)", strings.Join(c.ListenPeerURLs, ","))
	}
	return nil
}

func (c *Config) checkTimes() error {
	heartbeat, election := c.HeartbeatInterval, c.ElectionTimeout
	if heartbeat < time.Millisecond || heartbeat%time.Millisecond != 0 {
		return fmt.Errorf("--heartbeat-interval must be a whole number of milliseconds above 0 (set to %v)", heartbeat)
	}
	if election < time.Millisecond || election%time.Millisecond != 0 {
		return fmt.Errorf("--election-timeout must be a whole number of milliseconds above 0 (set to %v)", election)
	}
	if election > maxElectionTimeout {
		return fmt.Errorf("--election-timeout[%vms] is too long, and should be set less than %vms",
			election.Milliseconds(), maxElectionTimeout.Milliseconds())
	}
	if 5*heartbeat > election {
		return fmt.Errorf("--election-timeout[%vms] should be at least as 5 times as --heartbeat-interval[%vms]",
			election.Milliseconds(), heartbeat.Milliseconds())
	}
	if err := host.CheckTiming(heartbeat, election); err != nil {
		return fmt.Errorf("--heartbeat-interval and --election-timeout: %w", err)
	}
	if c.WatchProgressNotifyInterval < minProgressInterval {
		return fmt.Errorf("--watch-progress-notify-interval must be at least %v (set to %v)", minProgressInterval,
			c.WatchProgressNotifyInterval)
	}
	return nil
}

func (c *Config) checkSizes() error {
	if c.MaxRequestBytes > maxRequestBytes {
		return fmt.Errorf("--max-request-bytes must be at most %d (set to %d)", maxRequestBytes, c.MaxRequestBytes)
	}
	if c.ClientMemoryBytes < minClientMemory {
		return fmt.Errorf("--client-memory-bytes must be at least %d (set to %d)", minClientMemory, c.ClientMemoryBytes)
	}
	if c.MaxTxnOps > math.MaxInt32 {
		return fmt.Errorf("--max-txn-ops must be at most %d (set to %d)", math.MaxInt32, c.MaxTxnOps)
	}
	return nil
}

func (c *Config) checkRegistry() error {
	if c.ListenDNS != "" {
		if addr, err := netip.ParseAddrPort(c.ListenDNS); err != nil || !addr.IsValid() {
			return fmt.Errorf("--listen-dns %q must be IP:PORT", c.ListenDNS)
		}
	}
	if c.DNSTTL < 0 || c.DNSTTL > maxDNSTTL || c.DNSTTL%time.Second != 0 {
		return fmt.Errorf("--dns-ttl must be a whole number of seconds between 0s and %v (set to %v)", maxDNSTTL,
			c.DNSTTL)
	}
	for flag, list := range map[string][]string{"--probe-deny": c.ProbeDeny, "--probe-allow": c.ProbeAllow} {
		if _, err := parsePrefixes(list); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return nil
}

func parsePrefixes(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := registry.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// probePolicy is the policy of a valid configuration. Where clients are told of loopback addresses alone, all there is
// runs on one machine.
func (c *Config) probePolicy() *registry.Policy {
	deny, _ := parsePrefixes(c.ProbeDeny)
	allow, _ := parsePrefixes(c.ProbeAllow)
	local := !slices.ContainsFunc(c.AdvertiseClientURLs, func(raw string) bool {
		u, err := url.Parse(raw)
		if err != nil {
			return true
		}
		ip, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
	})
	return registry.NewPolicy(deny, allow, local)
}

func (c *Config) checkLogging() error {
	if err := checkOneOf("--log-level", c.LogLevel, logLevels...); err != nil {
		return err
	}
	return checkOneOf("--log-format", c.LogFormat, LogFormatJSON, LogFormatConsole)
}

func checkOneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s %q is unknown: must be one of %s", flag, value, strings.Join(allowed, ", "))
}

// onFatal is OnFatal, or what is done without.
func (c *Config) onFatal() func(line string) {
	if c.OnFatal != nil {
		return c.OnFatal
	}
	return func(string) { os.Exit(1) }
}
