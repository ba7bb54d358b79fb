package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/coord-dev/coord/client/registry"
)

// The forms in which -w json and -w yaml print.
type (
	serviceForm struct {
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

// servicesOf counts the instances, which are sorted by service.
func servicesOf(all []*registry.Instance) []serviceForm {
	forms := []serviceForm{}
	for _, in := range all {
		if n := len(forms); n == 0 || forms[n-1].Service != in.Service {
			forms = append(forms, serviceForm{Service: in.Service, States: map[string]int{}})
		}
		last := &forms[len(forms)-1]
		last.Instances++
		last.States[in.State.String()]++
	}
	return forms
}

func serviceHead() []any {
	return []any{"SERVICE", "INSTANCES", "PASSING", "STARTING", "DRAINING", "CRITICAL"}
}

func (f *serviceForm) row() []any {
	return []any{plain(f.Service), f.Instances, f.States["passing"], f.States["starting"], f.States["draining"], f.States["critical"]}
}

// printServices prints a line for each service of the instances.
func (r *serviceRun) printServices(all []*registry.Instance) error {
	forms := servicesOf(all)
	rows := [][]any{serviceHead()}
	for _, f := range forms {
		rows = append(rows, f.row())
	}
	return r.printTable(forms, rows...)
}

func (r *serviceRun) printInstances(all []*registry.Instance) error {
	if all == nil {
		all = []*registry.Instance{}
	}
	return r.print(all, func(w io.Writer) {
		rows := [][]any{{"ID", "ADDR", "STATE", "ZONE", "WEIGHT", "TAGS", "VERSION", "WHY"}}
		for _, in := range all {
			rows = append(rows, []any{
				plain(in.ID), plain(in.Addr), stateOf(in), orDash(in.Zone), in.Weight, orDash(strings.Join(in.Tags, ",")), orDash(in.Version), orDash(in.Detail),
			})
		}
		table(w, rows...)
	})
}

func (r *serviceRun) printChange(revision int64, c registry.Change) error {
	return r.print(serviceChange{revision, c.Op.String(), c.Instance}, func(w io.Writer) {
		line := fmt.Sprintf("%s %s at %s: %s", c.Op, plain(c.Instance.ID), plain(c.Instance.Addr), stateOf(c.Instance))
		if c.Instance.Detail != "" {
			line += ", " + plain(c.Instance.Detail)
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
