package coord

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestBuildInfo(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: modified}}
	}
	for name, tc := range map[string]struct {
		set          string
		info         debug.BuildInfo
		version, sha string
	}{
		"release": {"1.2.3", debug.BuildInfo{
			Main: debug.Module{Version: "v9"}, Settings: vcs("false"),
		}, "1.2.3", "abc"},
		"installed": {"", debug.BuildInfo{Main: debug.Module{Version: "v0.4.0"}}, "0.4.0", "unknown"},
		"changed": {"", debug.BuildInfo{
			Main: debug.Module{Version: "(devel)"}, Settings: vcs("true"),
		}, "devel", "abc-dirty"},
		"nothing": {"", debug.BuildInfo{}, "devel", "unknown"},
	} {
		b := BuildInfo{Version: tc.set, GitSHA: "unknown"}
		b.fill(&tc.info)
		if b.Version != tc.version || b.GitSHA != tc.sha {
			t.Errorf("%s: version %s, commit %s; want %s, %s", name, b.Version, b.GitSHA, tc.version, tc.sha)
		}
	}
	if b := Build(); b.Version == "" || !strings.HasPrefix(b.GoVersion, "go") || !strings.Contains(b.Platform, "/") {
		t.Errorf("this test was built from %+v", b)
	}
	want := "coordd Version: 1\nGit SHA: 2\nGo Version: 3\nGo OS/Arch: 4\n"
	if got := (BuildInfo{"1", "2", "3", "4"}).Describe("coordd"); got != want {
		t.Errorf("described as\n%swant\n%s", got, want)
	}
}
