package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// New makes "coordctl top".
func New() *cobra.Command {
	opt := topOptions{interval: cli.Seconds(2 * time.Second)}
	cmd := &cobra.Command{
		Use: "top", Short: "Shows members, sessions, locks, elections and services as they are now",
		Long: `Shows on the terminal, again and again: the members with how many entries they have not applied yet; the sessions with least
time left; the locks and elections with the longest queues; and the services by the states of their instances. q or ctrl-C
ends it. What cannot be asked is shown as it was, and marked.

With --once, without a terminal, or as JSON or YAML, it prints one picture and ends.`,
		Example: "  coordctl top --interval 1s\n  coordctl top --once --rows 20\n  coordctl top -w json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.BadArgs("top takes no arguments")
			}
			return runTop(cmd, &opt)
		},
	}
	cmd.Flags().Var(&opt.interval, "interval", "time from one picture to the next")
	cmd.Flags().BoolVar(&opt.once, "once", false, "print one picture and end")
	cmd.Flags().IntVar(&opt.rows, "rows", 10,
		"so many sessions, locks, elections and services; on a terminal as many as fit")
	return cmd
}

type topOptions struct {
	interval cli.Seconds
	once     bool
	rows     int
}

func runTop(cmd *cobra.Command, opt *topOptions) error {
	if opt.interval <= 0 || opt.rows < 1 {
		return cli.BadArgs("--interval and --rows must be greater than zero")
	}
	return cli.WithEtcd(cmd, func(g *cli.Globals, p *cli.Printer, etcd *clientv3.Client) error {
		ctx, stop := cli.UntilAsked()
		defer stop()
		look := newLookout(etcd, g, opt.rows)
		if opt.once || p.Format == "json" || p.Format == "yaml" || !isatty.IsTerminal(os.Stdout.Fd()) {
			return look.once(ctx, p)
		}
		return look.watch(ctx, time.Duration(opt.interval))
	})
}

// once prints one picture. A picture without members and queues is none.
func (l *lookout) once(ctx context.Context, p *cli.Printer) error {
	now := l.look(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case now.failed[topMembers] != nil && now.failed[topQueues] != nil:
		return now.failed[topMembers]
	}
	return p.Print(now, func(w io.Writer) {
		for i, s := range now.sections() {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, s.title)
			cli.Table(w, s.lines(min(len(s.rows), l.rows))...)
		}
	})
}

// watch shows pictures on the terminal until a key or a signal ends it.
func (l *lookout) watch(ctx context.Context, interval time.Duration) error {
	l.patience = min(l.patience, topPatience)
	s, err := openScreen(os.Stdin, os.Stdout)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process
		s.untilQuit()
		cancel()
	}()
	for ctx.Err() == nil {
		width, height := s.size()
		l.rows = height // more do not fit
		now := l.look(ctx)
		if ctx.Err() != nil {
			break
		}
		if err := s.show(now.screen(width, height)); err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
		}
	}
	return nil
}

// topPatience is how long a picture on the terminal waits for what does not answer.
const topPatience = 3 * time.Second
