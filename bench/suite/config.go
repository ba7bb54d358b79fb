// Package suite is the benchmark itself: which peers run, in which rows, in what order, and what is recorded.
package suite

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/coord-dev/coord/bench/peers"
)

// Names of the rows, matched by Config.Rows.
const (
	RowIdle             = "idle"
	RowPut              = "put"
	RowGet              = "get"
	RowPair             = "pair"
	RowStreamWrite      = "stream-write"
	RowStreamRead       = "stream-read"
	RowStreamLock       = "stream-lock"
	RowStreamSession    = "stream-session"
	RowStreamCounter    = "stream-counter"
	RowStreamSemaphore  = "stream-semaphore"
	RowHandoff          = "handoff"
	RowBarrier          = "barrier"
	RowSessions         = "sessions"
	RowHolderDeath      = "holder-death"
	RowWatchers         = "watchers"
	RowStartup          = "startup"
	RowFailoverLeader   = "failover-leader"
	RowFailoverFollower = "failover-follower"
	RowFailoverAll      = "failover-all"
	RowTransferMove     = "transfer-move"
	RowTransferStop     = "transfer-stop"
)

// Config says what to run. ParseFlags fills it.
type Config struct {
	// Rows selects rows by name.
	Rows *regexp.Regexp
	// Peers, Members and Clients are run in this order.
	Peers   []string
	Members []int
	Clients []int
	// Conns is the most connections that clients share; with fewer clients each has its own.
	Conns int
	// Round is the measured window, WarmUp what passes before it; each peer has Rounds of them in turn.
	Round, WarmUp time.Duration
	Rounds        int
	// Idle is how long a peer that nobody uses is looked at, in each round. CPU time is counted in steps of 10 ms.
	Idle time.Duration
	// Heat is how long each row of a Java server runs before anything is measured.
	Heat time.Duration
	// SessionTTL is that of all sessions.
	SessionTTL time.Duration
	// Sessions is how many the row of sessions holds, SessionStreams how many streams of one process share them.
	Sessions, SessionStreams int
	// Parties is how many enter one barrier.
	Parties int
	// Keys is the number of keys written before the closed-loop rows, ValueBytes the size of every value.
	Keys, ValueBytes int
	// WatchStreams of WatchersPerStream each are the row of watchers.
	WatchStreams, WatchersPerStream int
	// StartupKeys is the number of keys in the row of start-up.
	StartupKeys int
	// Failovers is how often each kind of kill is repeated, Transfers how often leadership is moved.
	Failovers, Transfers int
	// Dir holds the data of all servers, in a folder that is removed at the end.
	Dir string
	// Coordd is the server binary under test.
	Coordd string
	// JSON, when not empty, is the file the report is written to.
	JSON string
	// Profile, when not empty, is a directory for a CPU profile of each line of the closed-loop rows.
	Profile string
	// Self is the benchmark's own binary, which acts as the other servers.
	Self string
}

// defaultRows is everything except what takes minutes for a single figure.
const defaultRows = "^(idle|put|get|pair|stream|handoff|barrier|sessions|holder|watchers|failover|transfer)"

// ParseFlags reads the command line. Usage and errors go to w. The errors are flag.ErrHelp and those of bad values.
func ParseFlags(args []string, w io.Writer) (Config, error) {
	c := Config{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(w)
	rows := fs.String("rows", defaultRows, "regular expression of the `rows` to run: "+strings.Join(allRows(), ", "))
	peerList := fs.String("peers", strings.Join(peers.Kinds(), ","), "`peers` to run, in turn")
	members := fs.String("members", "1,3", "cluster `sizes`")
	clients := fs.String("clients", "1,64,512", "`numbers` of concurrent clients")
	short := fs.Bool("short", false, "one short round of the closed-loop rows; flags given beside it prevail")
	fs.IntVar(&c.Conns, "conns", 16, "most `connections` that the clients share")
	fs.DurationVar(&c.Round, "round", 2*time.Second, "measured window of one round")
	fs.DurationVar(&c.WarmUp, "warm-up", 500*time.Millisecond, "time before each measured window")
	fs.IntVar(&c.Rounds, "rounds", 3, "rounds of each peer, alternating")
	fs.DurationVar(&c.Idle, "idle", 3*time.Second, "time for which a peer that nobody uses is looked at, in each round")
	fs.DurationVar(&c.Heat, "heat", 3*time.Second, "time that ZooKeeper's JVM gets to compile what a row uses, before "+
		"all rounds")
	fs.DurationVar(&c.SessionTTL, "session-ttl", 10*time.Second, "TTL of sessions, whole seconds")
	fs.IntVar(&c.Sessions, "sessions", 10_000, "sessions that are held while others write")
	fs.IntVar(&c.SessionStreams, "session-streams", 3, "streams that share them, of one process")
	fs.IntVar(&c.Parties, "parties", 1000, "parties of one barrier")
	fs.IntVar(&c.Keys, "keys", 100_000, "`number` of keys, loaded before the rows run")
	fs.IntVar(&c.ValueBytes, "value-bytes", 256, "size of every value")
	fs.IntVar(&c.WatchStreams, "watch-streams", 100, "streams of watchers")
	fs.IntVar(&c.WatchersPerStream, "watchers-per-stream", 1000, "watchers on each stream, at least 11")
	fs.IntVar(&c.StartupKeys, "startup-keys", 1_000_000, "keys of the start-up row")
	fs.IntVar(&c.Failovers, "failovers", 3, "repetitions of each kind of kill")
	fs.IntVar(&c.Transfers, "transfers", 10, "repetitions of leader transfer")
	fs.StringVar(&c.Dir, "dir", os.TempDir(), "`directory` for the servers' data; its file system is what is measured")
	fs.StringVar(&c.Coordd, "coordd", "bin/coordd", "server binary under test")
	fs.StringVar(&c.JSON, "json", "", "`file` to write all samples to")
	fs.StringVar(&c.Profile, "profile", "", "`directory` for CPU profiles, taken with perf in a round more for "+
		"each line")
	if err := fs.Parse(args); err != nil {
		return Config{}, err
	}
	if fs.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *short {
		c.shorten(fs, rows, clients)
	}
	return c.complete(*rows, *peerList, *members, *clients)
}

// shorten makes a run of about two minutes of whatever was not given on the command line.
func (c *Config) shorten(fs *flag.FlagSet, rows, clients *string) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	brief := map[string]func(){
		"rows":      func() { *rows = "^(put|get|pair|stream-(write|read|lock)|handoff)$" },
		"clients":   func() { *clients = "1,512" },
		"round":     func() { c.Round = 600 * time.Millisecond },
		"warm-up":   func() { c.WarmUp = 200 * time.Millisecond },
		"heat":      func() { c.Heat = time.Second },
		"keys":      func() { c.Keys = 20_000 },
		"rounds":    func() { c.Rounds = 1 },
		"failovers": func() { c.Failovers = 1 },
		"transfers": func() { c.Transfers = 3 },
	}
	for name, set := range brief {
		if !given[name] {
			set()
		}
	}
}

// complete parses the lists and checks every number.
func (c Config) complete(rows, peerList, members, clients string) (Config, error) {
	var err error
	if c.Rows, err = regexp.Compile(rows); err != nil {
		return Config{}, fmt.Errorf("-rows: %w", err)
	}
	if c.Members, err = numbers(members); err != nil {
		return Config{}, fmt.Errorf("-members: %w", err)
	}
	if c.Clients, err = numbers(clients); err != nil {
		return Config{}, fmt.Errorf("-clients: %w", err)
	}
	c.Peers = strings.Split(peerList, ",")
	if c.Self, err = os.Executable(); err != nil {
		return Config{}, err
	}
	return c, c.validate()
}

func (c Config) validate() error {
	for _, f := range []struct {
		name       string
		value, min int
	}{
		{"conns", c.Conns, 1}, {"rounds", c.Rounds, 1}, {"keys", c.Keys, 1}, {"value-bytes", c.ValueBytes, 0},
		{"parties", c.Parties, 1}, {"sessions", c.Sessions, 1}, {"session-streams", c.SessionStreams, 1},
		{"watch-streams", c.WatchStreams, 1}, {"watchers-per-stream", c.WatchersPerStream, sharedPerStream + 1},
		{"startup-keys", c.StartupKeys, 1}, {"failovers", c.Failovers, 1}, {"transfers", c.Transfers, 1},
	} {
		if f.value < f.min {
			return fmt.Errorf("-%s is %d: want at least %d", f.name, f.value, f.min)
		}
	}
	if c.Round <= 0 || c.WarmUp < 0 {
		return fmt.Errorf("-round is %s and -warm-up %s: want more than 0 and at least 0", c.Round, c.WarmUp)
	}
	if c.Idle <= 0 {
		return fmt.Errorf("-idle is %s: want more than 0", c.Idle)
	}
	if c.SessionTTL < time.Second || c.SessionTTL%time.Second != 0 {
		return fmt.Errorf("-session-ttl is %s: want whole seconds", c.SessionTTL)
	}
	if most := 100_000_000; c.Keys > most || c.StartupKeys > most {
		return fmt.Errorf("-keys is %d and -startup-keys %d: keys are eight digits, want at most %d", c.Keys,
			c.StartupKeys, most)
	}
	for _, row := range allRows() {
		if c.Rows.MatchString(row) {
			return nil
		}
	}
	return fmt.Errorf("-rows %q matches none of %s", c.Rows, strings.Join(allRows(), ", "))
}

// numbers parses a list of positive integers with commas between them.
func numbers(list string) ([]int, error) {
	var out []int
	for item := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(item))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q in %q is not a positive number", item, list)
		}
		out = append(out, n)
	}
	return out, nil
}

// setup says in the report how the measurement is made.
func (c Config) setup() []string {
	return []string{
		fmt.Sprintf("client in this process, GOMAXPROCS %d, raw stubs; N clients share min(N, %d) connections, spread "+
			"over the members, leader first",
			runtime.GOMAXPROCS(0), c.Conns),
		fmt.Sprintf("keys of 8 bytes, %d of them at random, values of %d bytes; pairs (put, delete) on as many keys "+
			"of 9 bytes", c.Keys, c.ValueBytes),
		fmt.Sprintf("%d rounds of %s after %s of warm-up, peers alternating; a figure is the median of its rounds, a "+
			"ratio that of paired rounds",
			c.Rounds, c.Round, c.WarmUp),
		fmt.Sprintf("rows stream-*, handoff: a key or lock of each caller's own; coord by client, one stream to the "+
			"leader; etcd by raw stubs and package concurrency, ZooKeeper by github.com/go-zookeeper/zk, N callers "+
			"sharing min(N, %d) connections "+
			"spread over the members", c.Conns),
		"all servers of a table run at the same time and idle while another is measured; " +
			"cpu and memory are sums over the members",
	}
}
