package coord

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version is coord's own version. Release builds set it: -ldflags "-X github.com/coord-dev/coord/coord.version=1.2.3".
var version string

// BuildInfo says what a binary was built from.
type BuildInfo struct {
	// Version is coord's own, without a leading v: the one a release was built with, else the module's, else "devel".
	Version string
	// GitSHA is the commit, with "-dirty" if files were changed, or "unknown".
	GitSHA string
	// GoVersion is the toolchain's, and Platform is OS/ARCH.
	GoVersion, Platform string
}

// Build returns what the running binary was built from.
func Build() BuildInfo {
	b := BuildInfo{
		Version: version, GitSHA: "unknown", GoVersion: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	b.fill(info)
	return b
}

// fill takes over what the toolchain recorded, where nothing better is known.
func (b *BuildInfo) fill(info *debug.BuildInfo) {
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = strings.TrimPrefix(info.Main.Version, "v")
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.GitSHA = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		b.GitSHA += "-dirty"
	}
}

// Describe is what --version prints for a program.
func (b BuildInfo) Describe(program string) string {
	return fmt.Sprintf("%s Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s\n", program, b.Version, b.GitSHA,
		b.GoVersion, b.Platform)
}
