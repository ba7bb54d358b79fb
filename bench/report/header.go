package report

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Header says what a run was made on and with.
type Header struct {
	Time       time.Time         `json:"time"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	Memory     string            `json:"memory"`
	Kernel     string            `json:"kernel"`
	Go         string            `json:"go"`
	Directory  string            `json:"directory"`
	FileSystem string            `json:"file_system"`
	FsyncP50   time.Duration     `json:"fsync_p50_ns"`
	FsyncP99   time.Duration     `json:"fsync_p99_ns"`
	Peers      map[string]string `json:"peers"` // name → version
	Setup      []string          `json:"setup"` // how the measurement is made, a line each
}

// Describe fills what can be read from the machine. dir is where the servers keep their data.
func Describe(dir string) (Header, error) {
	p50, p99, err := probeFsync(dir)
	if err != nil {
		return Header{}, fmt.Errorf("probe fsync in %s: %w", dir, err)
	}
	return Header{
		Time:       time.Now().UTC().Truncate(time.Second),
		CPU:        procField("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Memory:     procField("/proc/meminfo", "MemTotal"),
		Kernel:     kernel(),
		Go:         runtime.Version(),
		Directory:  dir,
		FileSystem: fileSystem(dir),
		FsyncP50:   p50,
		FsyncP99:   p99,
		Peers:      map[string]string{},
	}, nil
}

// Write prints the header as text.
func (h Header) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "time     %s\n", h.Time.Format(time.RFC3339))
	fmt.Fprintf(&b, "machine  %d cores, %s; memory %s; %s; %s\n", h.Cores, h.CPU, h.Memory, h.Kernel, h.Go)
	fmt.Fprintf(&b, "disk     %s in %s; append of 4 KiB and fsync p50 %s, p99 %s\n", h.FileSystem, h.Directory,
		h.FsyncP50, h.FsyncP99)
	if h.FileSystem == "tmpfs" {
		b.WriteString("WARNING  tmpfs syncs nothing: figures of writes mean little, choose a disk with -dir\n")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Peers)) {
		fmt.Fprintf(&b, "peer     %s: %s\n", name, h.Peers[name])
	}
	for _, line := range h.Setup {
		fmt.Fprintf(&b, "setup    %s\n", line)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Length of the fsync probe.
const (
	probeWrites = 100
	probeBytes  = 4096
)

// probeFsync appends to a file and syncs it, again and again, as a log does.
func probeFsync(dir string) (p50, p99 time.Duration, err error) {
	f, err := os.CreateTemp(dir, "fsync-*")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, probeWrites)
	block := make([]byte, probeBytes)
	for i := range took {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(begin).Round(time.Microsecond)
	}
	slices.Sort(took)
	return took[probeWrites/2], took[probeWrites*99/100], nil
}

// procField returns the first value of name in a file of "name: value" lines, "unknown" where there is none.
func procField(file, name string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(raw)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	raw, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(raw))
}

// fileSystem returns the type of the file system that holds dir: that of the longest mount point above it.
func fileSystem(dir string) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "unknown file system"
	}
	return mountType(string(mounts), abs)
}

func mountType(mounts, abs string) string {
	best, kind := "", "unknown file system"
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) < len(best) {
			continue
		}
		if rel, err := filepath.Rel(f[1], abs); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			best, kind = f[1], f[2]
		}
	}
	return kind
}
