//go:build tools

// Package coord keeps the module's requirements together until each has its first importer.
package coord

import (
	_ "github.com/HdrHistogram/hdrhistogram-go"
	_ "github.com/anishathalye/porcupine"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/google/btree"
	_ "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	_ "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	_ "github.com/lni/dragonboat/v4"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/soheilhy/cmux"
	_ "github.com/spf13/cobra"
	_ "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
	_ "go.etcd.io/etcd/server/v3/embed"
	_ "go.uber.org/goleak"
	_ "go.uber.org/zap"
	_ "golang.org/x/sync/errgroup"
	_ "google.golang.org/grpc"
	_ "pgregory.net/rapid"
)
