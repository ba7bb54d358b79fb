package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every platform Linux supports today.
const clockTick = 10 * time.Millisecond

// Usage is what a process has used.
type Usage struct {
	// CPU is user and system time of all threads since the process started.
	CPU time.Duration
	// RSS is the resident memory now, Peak the most it ever was, both in bytes.
	RSS, Peak int64
}

// Add returns the sum of two usages, as for the members of a cluster.
func (u Usage) Add(v Usage) Usage {
	return Usage{CPU: u.CPU + v.CPU, RSS: u.RSS + v.RSS, Peak: u.Peak + v.Peak}
}

// Self returns what this process has used, that is the benchmark's client.
func Self() (Usage, error) { return usage(os.Getpid()) }

// usage reads the usage of a process from /proc.
func usage(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	cpu, err := parseStat(stat)
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	rss, peak, err := parseStatus(status)
	return Usage{CPU: cpu, RSS: rss, Peak: peak}, err
}

// parseStat returns user plus system time from /proc/PID/stat. The name of the program, in parentheses, may hold
// spaces and parentheses itself, so fields are counted from the last closing one: utime and stime are fields 14 and 15.
func parseStat(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("no program name in stat line %q", stat)
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat line has %d fields after the name, want at least 13", len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cpu time in stat line: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// parseStatus returns VmRSS and VmHWM of /proc/PID/status in bytes.
func parseStatus(status []byte) (rss, peak int64, err error) {
	found := 0
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s in status: %w", name, err)
		}
		found++
		if name == "VmRSS" {
			rss = kib << 10
		} else {
			peak = kib << 10
		}
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("status has %d of VmRSS and VmHWM", found)
	}
	return rss, peak, nil
}
