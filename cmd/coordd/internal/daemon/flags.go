package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-dev/coord/coord"
)

// envPrefixes are those of the environment variables that stand for flags. The first one that is set counts.
var envPrefixes = []string{"COORD_", "ETCD_"}

// A setting is one flag: how it is called and explained, and how its text gets into the configuration.
type setting struct {
	name string
	// shown is the default as --help shows it.
	shown string
	help  string
	set   func(c *coord.Config, value string) error
}

// A section is a group of settings under one heading of --help.
type section struct {
	title    string
	settings []setting
}

var sections = []section{
	{"Member", []setting{
		{"name", coord.DefaultName, "Human-readable name for this member.",
			text(func(c *coord.Config) *string { return &c.Name })},
		{"data-dir", "${name}.coord", "Path to the data directory.",
			text(func(c *coord.Config) *string { return &c.DataDir })},
		{"wal-dir", "", "Path to a directory of its own for the Raft log.",
			text(func(c *coord.Config) *string { return &c.WALDir })},
		{"listen-client-urls", coord.DefaultListenClientURL,
			"Comma-separated URLs to serve clients on: gRPC and HTTP on one port.",
			urls(func(c *coord.Config) *[]string { return &c.ListenClientURLs })},
		{"listen-peer-urls", coord.DefaultListenPeerURL, "Comma-separated URLs to serve the other members on.",
			urls(func(c *coord.Config) *[]string { return &c.ListenPeerURLs })},
		{"heartbeat-interval", millisText(coord.DefaultHeartbeatInterval),
			"Time (in milliseconds) of a heartbeat interval: at least 5.",
			millis(func(c *coord.Config) *time.Duration { return &c.HeartbeatInterval })},
		{"election-timeout", millisText(coord.DefaultElectionTimeout),
			"Time (in milliseconds) for an election to timeout: at least five heartbeats.",
			millis(func(c *coord.Config) *time.Duration { return &c.ElectionTimeout })},
		{"snapshot-count", strconv.Itoa(coord.DefaultSnapshotCount),
			"Number of committed transactions to trigger a snapshot. 0 means the default.", setSnapshotCount},
	}},
	{"Clustering", []setting{
		{"initial-advertise-peer-urls", "the listen URLs",
			"Comma-separated URLs at which the other members reach this one.",
			urls(func(c *coord.Config) *[]string { return &c.InitialAdvertisePeerURLs })},
		{"advertise-client-urls", "the listen URLs", "Comma-separated URLs at which clients reach this member.",
			urls(func(c *coord.Config) *[]string { return &c.AdvertiseClientURLs })},
		{"initial-cluster", "this member alone",
			"Members of the cluster: NAME=URL,NAME=URL,…; a name may have several URLs.",
			text(func(c *coord.Config) *string { return &c.InitialCluster })},
		{"initial-cluster-state", coord.ClusterStateNew,
			"'new' to found a cluster, 'existing' to join one to which this member was added.",
			text(func(c *coord.Config) *string { return &c.ClusterState })},
		{"initial-cluster-token", coord.DefaultClusterToken, "Token that tells clusters with the same addresses apart.",
			text(func(c *coord.Config) *string { return &c.ClusterToken })},
	}},
	{"Limits", []setting{
		{"max-request-bytes", strconv.Itoa(coord.DefaultMaxRequestBytes), "Maximum client request size in bytes.",
			positive(func(c *coord.Config) *uint { return &c.MaxRequestBytes })},
		{"max-txn-ops", strconv.Itoa(coord.DefaultMaxTxnOps),
			"Maximum number of operations permitted in a transaction.",
			positive(func(c *coord.Config) *uint { return &c.MaxTxnOps })},
		{"quota-backend-bytes", "0",
			"Size of the store in bytes from which on writes are refused. 0 means 2 GiB, less than 0 no quota.",
			byteCount(func(c *coord.Config) *int64 { return &c.QuotaBackendBytes })},
		{"disk-reserve-bytes", "0",
			"Free disk space in bytes below which writes are refused. 0 means 64 MiB, less on a small disk; less " +
				"than 0: the disk is not watched.", byteCount(func(c *coord.Config) *int64 { return &c.DiskReserve })},
		{"client-memory-bytes", strconv.Itoa(coord.DefaultClientMemoryBytes),
			"Memory in bytes that a member holds for all clients together: watchers, channels, requests under way, " +
				"what waits for slow clients. What is more than the default raises the soft limit of the heap (304 " +
				"MiB, or GOMEMLIMIT) by as much.",
			byteCount(func(c *coord.Config) *int64 { return &c.ClientMemoryBytes })},
		{"watch-progress-notify-interval", coord.DefaultWatchProgressNotifyInterval.String(),
			"Time between progress notifications on an idle watch, at least 100ms.", setProgressInterval},
	}},
	{"Service registry", []setting{
		{"listen-dns", "",
			"IP:PORT to answer DNS on, UDP and TCP, for SERVICE.service.coord. and TAG.SERVICE.service.coord.",
			text(func(c *coord.Config) *string { return &c.ListenDNS })},
		{"dns-ttl", "0s", "How long DNS answers may be remembered, in whole seconds.",
			duration(func(c *coord.Config) *time.Duration { return &c.DNSTTL })},
		{"service-probes", "true", "Whether this member probes registered instances that ask for it while it leads.",
			setServiceProbes},
		{"probe-deny", "",
			"Comma-separated addresses and ranges that probes must not connect to, beside link-local and cloud " +
				"metadata ones.", urls(func(c *coord.Config) *[]string { return &c.ProbeDeny })},
		{"probe-allow", "",
			"Comma-separated addresses and ranges that they may. The longest range that holds an address decides.",
			urls(func(c *coord.Config) *[]string { return &c.ProbeAllow })},
	}},
	{"Logging", []setting{
		{"log-level", coord.DefaultLogLevel, "debug, info, warn, error, panic or fatal.",
			text(func(c *coord.Config) *string { return &c.LogLevel })},
		{"log-format", coord.DefaultLogFormat, "json or console.",
			text(func(c *coord.Config) *string { return &c.LogFormat })},
	}},
}

func text(field func(*coord.Config) *string) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		*field(c) = value
		return nil
	}
}

func urls(field func(*coord.Config) *[]string) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		list := strings.Split(value, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		*field(c) = list
		return nil
	}
}

func millis(field func(*coord.Config) *time.Duration) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil || n == 0 {
			return errors.New("must be a whole number of milliseconds above 0")
		}
		*field(c) = time.Duration(n) * time.Millisecond
		return nil
	}
}

func positive(field func(*coord.Config) *uint) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		n, err := strconv.ParseUint(value, 0, strconv.IntSize)
		if err != nil || n == 0 {
			return errors.New("must be a whole number above 0")
		}
		*field(c) = uint(n)
		return nil
	}
}

func byteCount(field func(*coord.Config) *int64) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		n, err := strconv.ParseInt(value, 0, 64)
		if err != nil {
			return fmt.Errorf("must be a whole number of bytes, at most %d", int64(math.MaxInt64))
		}
		*field(c) = n
		return nil
	}
}

func setSnapshotCount(c *coord.Config, value string) error {
	n, err := strconv.ParseUint(value, 0, 64)
	if err != nil {
		return errors.New("must be a whole number, 0 means the default")
	}
	c.SnapshotCount = n
	return nil
}

func duration(field func(*coord.Config) *time.Duration) func(*coord.Config, string) error {
	return func(c *coord.Config, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil {
			return errors.New("must be a duration such as 5s or 1m")
		}
		*field(c) = d
		return nil
	}
}

func setServiceProbes(c *coord.Config, value string) error {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return errors.New("must be true or false")
	}
	c.NoServiceProbes = !on
	return nil
}

func setProgressInterval(c *coord.Config, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		return errors.New("must be a duration such as 10m or 500ms")
	}
	c.WatchProgressNotifyInterval = d
	return nil
}

func millisText(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Options is what the command line and the environment ask for.
type Options struct {
	// Config has its defaults filled and is valid, unless Help or Version is set.
	Config coord.Config
	// Help and Version: print it and exit.
	Help, Version bool
	// Unknown are environment variables that look as if they were meant for coordd, sorted.
	Unknown []string
}

// Parse reads the arguments, without the program's name, and the environment, as os.Environ gives it. A flag goes
// before COORD_NAME, and that before ETCD_NAME; an empty variable is none. Errors have one line.
func Parse(args, environ []string) (Options, error) {
	var o Options
	fs := newFlagSet(&o)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return Options{Help: true}, nil
	case err != nil:
		return Options{}, plain(err)
	case fs.NArg() > 0:
		return Options{}, fmt.Errorf("%q is not a valid flag", fs.Arg(0))
	case o.Version:
		return o, nil
	}
	if err := o.readEnv(fs, environ); err != nil {
		return Options{}, err
	}
	o.Config.EnsureDefaults()
	return o, o.Config.Validate()
}

func newFlagSet(o *Options) *flag.FlagSet {
	fs := flag.NewFlagSet("coordd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&o.Version, "version", false, "")
	for _, section := range sections {
		for _, s := range section.settings {
			fs.Func(s.name, s.help, func(value string) error { return s.set(&o.Config, value) })
		}
	}
	return fs
}

// plain puts the flag package's errors into our words.
func plain(err error) error {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		return fmt.Errorf("unknown flag --%s (coordd --help lists the flags)", strings.TrimPrefix(name, "-"))
	}
	if name, missing := strings.CutPrefix(err.Error(), "flag needs an argument: -"); missing {
		return fmt.Errorf("flag --%s needs a value", strings.TrimPrefix(name, "-"))
	}
	return errors.New(strings.Replace(err.Error(), " for flag -", " for flag --", 1))
}

// readEnv sets what no flag has set, and notes variables that fit no flag.
func (o *Options) readEnv(fs *flag.FlagSet, environ []string) error {
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	env, known := parseEnv(environ), make(map[string]bool)
	for _, section := range sections {
		for _, s := range section.settings {
			for _, prefix := range envPrefixes {
				key := envName(prefix, s.name)
				known[key] = true
				if env[key] == "" || given[s.name] {
					continue
				}
				given[s.name] = true
				if err := s.set(&o.Config, env[key]); err != nil {
					return fmt.Errorf("invalid value %q for %s: %w", env[key], key, err)
				}
			}
		}
	}
	o.Unknown = unknownEnv(env, known)
	return nil
}

func parseEnv(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		if key, value, ok := strings.Cut(pair, "="); ok {
			env[key] = value
		}
	}
	return env
}

func unknownEnv(env map[string]string, known map[string]bool) []string {
	var unknown []string
	for key := range env {
		ours := slices.ContainsFunc(envPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		if ours && !known[key] {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func envName(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
