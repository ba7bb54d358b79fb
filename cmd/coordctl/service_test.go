//go:build unix

package main_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
)

func TestServiceLivesWithItsProcess(t *testing.T) {
	watch := start(t, options{}, "service", "watch", "svc-life")
	r := start(t, options{}, "service", "register", "svc-life", "--addr", "10.0.0.1:80", "--id", "a", "--zone", "eu",
		"--tag", "v2",
		"--tag", "blue", "--weight", "7", "--meta", "k=v=w", "--version", "1.2", "--etcd")
	r.waitOut(t, "registered instance a of service svc-life\n")
	watch.waitOut(t, "added a at 10.0.0.1:80: passing\n")
	var all []map[string]any
	if err := json.Unmarshal([]byte(ok(t, "service", "ls", "svc-life", "-w", "json")),
		&all); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	for key, want := range map[string]any{"id": "a", "addr": "10.0.0.1:80", "zone": "eu", "weight": 7.0,
		"version": "1.2", "state": "passing", "mirror": true} {
		if all[0][key] != want {
			t.Errorf("%s is %v, want %v", key, all[0][key], want)
		}
	}
	if out := ok(t, "service", "ls", "svc-life", "--etcd", "--tag", "blue", "-w", "json"); strings.Count(out, `"foreign":true`) != 1 {
		t.Errorf("with etcd's layout: %s", out)
	}
	for _, args := range [][]string{{"--tag", "v1"}, {"--zone", "us"}} {
		if out := ok(t, append([]string{"service", "ls", "svc-life", "-w", "json"}, args...)...); out != "[]\n" {
			t.Errorf("by %v: %s", args, out)
		}
	}
	ok(t, "service", "drain", "svc-life", "a")
	r.waitOut(t, "instance a of service svc-life is drained by an operator\n")
	watch.waitOut(t, "changed a at 10.0.0.1:80: draining, drained by ")
	if out := ok(t, "service", "ls", "svc-life", "--passing"); strings.Contains(out, "10.0.0.1") {
		t.Errorf("passing is %s", out)
	}
	ok(t, "service", "drain", "svc-life", "--undo")
	eventually(t, func() bool { return strings.Count(watch.out.String(), ": passing\n") == 2 }, "passing again in %q",
		&watch.out)
	r.signal(t, syscall.SIGTERM)
	r.wantCode(t, 0)
	watch.waitOut(t, "removed a at 10.0.0.1:80")
	watch.signal(t, syscall.SIGINT)
	watch.wantCode(t, 0)
	if lines := strings.Count(watch.out.String(), "\n"); lines != 4 {
		t.Errorf("watched was\n%s", &watch.out)
	}
}

func TestServiceIsTakenOver(t *testing.T) {
	first := start(t, options{}, "service", "register", "svc-over", "--addr", "10.0.0.1:80", "--id", "a", "--ttl", "30")
	first.waitOut(t, "registered")
	second := start(t, options{}, "service", "register", "svc-over", "--addr", "10.0.0.2:80", "--id", "a")
	second.waitOut(t, "registered")
	first.signal(t, syscall.SIGTERM) // it takes nothing of the second along
	first.wantCode(t, 0)
	if out := ok(t, "service", "ls", "svc-over"); !strings.Contains(out, "10.0.0.2:80") {
		t.Errorf("afterwards there is\n%s", out)
	}
}

func TestServiceBadArguments(t *testing.T) {
	for text, args := range map[string][]string{
		"no usable address":           {"register", "x"},
		"no port between 1 and 65535": {"register", "x", "--addr", "10.0.0.1:0"},
		"bad weight":                  {"register", "x", "--addr", "h:1", "--weight", "0"},
		"bad weight: -1":              {"register", "x", "--addr", "h:1", "--weight", "-1"},
		"bad name":                    {"register", "_coord/x", "--addr", "h:1"},
		"none of tcp":                 {"register", "x", "--addr", "h:1", "--probe", "udp"},
		"is not KEY=VALUE":            {"register", "x", "--addr", "h:1", "--meta", "v"},
		"there is no --probe":         {"register", "x", "--addr", "h:1", "--probe-timeout", "1"},
		"bad probe: a timeout":        {"register", "x", "--addr", "h:1", "--probe", "tcp", "--probe-timeout", "5m"},
		"--ttl must be":               {"register", "x", "--addr", "h:1", "--ttl", "0"},
		"takes the name":              {"watch"},
		"needs the name":              {"ls", "--etcd"},
	} {
		r := start(t, options{}, append([]string{"service"}, args...)...)
		r.wantCode(t, 128)
		r.wantOneLine(t, text)
	}
	r := start(t, options{}, "service", "drain", "nobody", "a")
	r.wantCode(t, 1)
	r.wantOneLine(t, "no such instance")
	r = start(t, options{}, "service", "ls", "-w", "fields")
	r.wantCode(t, 4) // cobrautl.ExitBadFeature
	r.wantOneLine(t, "unsupported output format")
	r = start(t, options{env: []string{"COORDCTL_ENDPOINTS=" + freeAddr()}, noEndpoint: true}, "service", "ls",
		"--command-timeout", "300ms", "--dial-timeout", "100ms")
	r.wantCode(t, 1)
	r.wantOneLine(t, "no answer from the cluster")
	// an attempt ends first
	r = start(t, options{env: []string{"COORDCTL_ENDPOINTS=" + freeAddr()}, noEndpoint: true}, "service", "ls")
	r.wantCode(t, 1)
	if got, want := r.err.String(), "Error: list all services: no answer from the cluster\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
