package service

import (
	"fmt"
	"io"
	"strings"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// The forms in which -w json and -w yaml print.
type (
	Summary struct {
		Service   string         `json:"service"`
		Instances int            `json:"instances"`
		States    map[string]int `json:"states"`
	}
	serviceChange struct {
		Revision int64              `json:"revision"`
		Change   string             `json:"change"`
		Instance *registry.Instance `json:"instance"`
	}
)

// Summarize counts the instances, which are sorted by service.
func Summarize(all []*registry.Instance) []Summary {
	forms := []Summary{}
	for _, in := range all {
		if n := len(forms); n == 0 || forms[n-1].Service != in.Service {
			forms = append(forms, Summary{Service: in.Service, States: map[string]int{}})
		}
		last := &forms[len(forms)-1]
		last.Instances++
		last.States[in.State.String()]++
	}
	return forms
}

// SummaryHead is the head of a table of summaries, and Row a row of it.
func SummaryHead() []any {
	return []any{"SERVICE", "INSTANCES", "PASSING", "STARTING", "DRAINING", "CRITICAL"}
}

// Row are the cells of a summary below SummaryHead.
func (f *Summary) Row() []any {
	return []any{cli.Plain(f.Service), f.Instances, f.States["passing"], f.States["starting"], f.States["draining"],
		f.States["critical"]}
}

// printServices prints a line for each service of the instances.
func (r *serviceRun) printServices(all []*registry.Instance) error {
	forms := Summarize(all)
	rows := [][]any{SummaryHead()}
	for _, f := range forms {
		rows = append(rows, f.Row())
	}
	return r.PrintTable(forms, rows...)
}

func (r *serviceRun) printInstances(all []*registry.Instance) error {
	if all == nil {
		all = []*registry.Instance{}
	}
	return r.Print(all, func(w io.Writer) {
		rows := [][]any{{"ID", "ADDR", "STATE", "ZONE", "WEIGHT", "TAGS", "VERSION", "WHY"}}
		for _, in := range all {
			rows = append(rows, []any{
				cli.Plain(in.ID), cli.Plain(in.Addr), stateOf(in), cli.OrDash(in.Zone), in.Weight,
				cli.OrDash(strings.Join(in.Tags, ",")), cli.OrDash(in.Version), cli.OrDash(in.Detail),
			})
		}
		cli.Table(w, rows...)
	})
}

func (r *serviceRun) printChange(revision int64, c registry.Change) error {
	return r.Print(serviceChange{revision, c.Op.String(), c.Instance}, func(w io.Writer) {
		line := fmt.Sprintf("%s %s at %s: %s", c.Op, cli.Plain(c.Instance.ID), cli.Plain(c.Instance.Addr),
			stateOf(c.Instance))
		if c.Instance.Detail != "" {
			line += ", " + cli.Plain(c.Instance.Detail)
		}
		fmt.Fprintln(w, line)
	})
}

// stateOf is the state of an instance with what is special about it.
func stateOf(in *registry.Instance) string {
	state := in.State.String()
	if in.Stale {
		state += " (stale)"
	}
	if in.Foreign {
		state += " (etcd)"
	}
	return state
}
