package config

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Option configures Watch. Those with a type parameter must have Watch's own.
type Option func(*options)

type options struct {
	document string
	copyPath string
	refresh  time.Duration
	patience time.Duration
	client   string // "": no reports
	conn     grpc.ClientConnInterface
	lease    func() clientv3.LeaseID

	// Functions of Watch's T.
	decode, validate, onChange, fallback any
}

// Defaults of Refresh and Patience.
const (
	DefaultRefresh  = 30 * time.Second
	DefaultPatience = 5 * time.Second
)

// Document chooses one document of the bundle.
func Document(name string) Option { return func(o *options) { o.document = name } }

// Decode makes the value of all documents with fn, in place of what the package's doc says of formats.
func Decode[T any](fn func(Documents) (T, error)) Option { return func(o *options) { o.decode = fn } }

// Validate has fn judge each value before it is swapped in. fn may be called for one version more than once.
func Validate[T any](fn func(T) error) Option { return func(o *options) { o.validate = fn } }

// OnChange has fn called after each swap, but not for the value that Watch begins with. The calls come one at a time,
// on the goroutine that follows the bundle: while fn runs, the value does not change again. fn must not call Close.
func OnChange[T any](fn func(before, now Snapshot[T])) Option {
	return func(o *options) { o.onChange = fn }
}

// Default is the value while there is nothing better: no version, and no copy on disk. Its Version is the zero one.
func Default[T any](value T) Option { return func(o *options) { o.fallback = value } }

// Copy keeps the last good version in a file, which no other bundle uses, for a start while the cluster cannot be
// reached. It is readable by the owner only, replaced atomically, and in need of a directory that exists.
func Copy(path string) Option { return func(o *options) { o.copyPath = path } }

// Refresh sets the time between the reads that confirm the value, whatever the watch says. Default 30 s.
func Refresh(d time.Duration) Option { return func(o *options) { o.refresh = d } }

// Patience bounds how long Watch tries to reach the cluster before it falls back on the copy or the default. Default 5
// s.
func Patience(d time.Duration) Option { return func(o *options) { o.patience = d } }

// Report tells the cluster over conn what became of each version, for Statuses: which one was seen, which one the
// process runs with, and why they differ. client names the process among the readers of the bundle. lease is that of
// its session, so that the report goes when the process does; it is asked before each report, because sessions are
// replaced. Nil, or no lease: the report stays until the bundle is deleted.
func Report(conn grpc.ClientConnInterface, client string, lease func() clientv3.LeaseID) Option {
	return func(o *options) { o.conn, o.client, o.lease = conn, client, lease }
}

func optionsOf(opts []Option) (*options, error) {
	o := &options{refresh: DefaultRefresh, patience: DefaultPatience}
	for _, opt := range opts {
		opt(o)
	}
	if o.refresh <= 0 || o.patience < 0 {
		return nil, fmt.Errorf("config: refresh %v, patience %v: not positive", o.refresh, o.patience)
	}
	if o.lease == nil {
		o.lease = func() clientv3.LeaseID { return clientv3.NoLease }
	}
	return o, nil
}

// typed is a function or value of an option as what Watch needs; the zero F if the option was not given.
func typed[F any](name string, v any, err *error) F {
	f, ok := v.(F)
	if !ok && v != nil && *err == nil {
		*err = fmt.Errorf("config: option %s is for another type than Watch: it has %T, not %T", name, v, f)
	}
	return f
}
