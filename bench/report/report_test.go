package report

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{7}, 7}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
}

// The second round is slow for both, and the ratio does not notice; a ratio of medians would be 1.5.
func TestPairedRatioIgnoresDrift(t *testing.T) {
	got, ok := Paired([]float64{200, 20, 300}, []float64{100, 10, 200})
	if want := (Ratio{Median: 2, Min: 1.5, Max: 2}); !ok || got != want {
		t.Errorf("ratio is %+v, want %+v", got, want)
	}
	for _, base := range [][]float64{nil, {0, 1}} {
		if _, ok := Paired([]float64{1, 2}, base); ok {
			t.Errorf("a ratio to %v was given", base)
		}
	}
	if got, ok := Paired([]float64{4, 100}, []float64{2}); !ok || got.Median != 2 {
		t.Errorf("a round without a partner counts: %+v", got)
	}
}

func sample() *Report {
	etcd := Record{Row: "put", Peer: "etcd", Members: 1, Clients: 64}
	coord := Record{Row: "put", Peer: "coord", Members: 1, Clients: 64, Note: "a remark"}
	other := Record{Row: "put", Peer: "coord", Members: 3, Clients: 64, Error: "it broke"}
	for i := range 3 {
		etcd.Add(OpsPerSecond, float64(1000+i))
		coord.Add(OpsPerSecond, float64(1200+i))
		etcd.Add(CPUPerOp, 100)
		coord.Add(CPUPerOp, 80)
		coord.Add(Errors, 2)
	}
	return &Report{Records: []Record{etcd, coord, other}}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	judge := func(_ Record, against Against) string {
		if against("etcd") == nil {
			return ""
		}
		return "judged"
	}
	if err := sample().WriteTable(&b, "title", "put", Comparison{
		Baselines: []string{"etcd", "nobody"}, By: OpsPerSecond, Cost: CPUPerOp, Judge: judge,
	}); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	expected := `title
   peer  members  clients  ops/s  srv cpu µs/op  errors  ×etcd    min–max  cpu ×etcd    want
   etcd        1       64   1001          100.0       -                                     
  coord        1       64   1201           80.0       6   1.20  1.20–1.20       0.80  judged
  coord        3       64      -              -       -                                     
  coord, 1 members, 64 clients: a remark
  coord, 3 members, 64 clients: it broke

`
	if got != expected {
		t.Errorf("table is\n%s\nwant\n%s", got, expected)
	}
	b.Reset()
	if err := sample().WriteTable(&b, "title", "get", Comparison{}); err != nil || b.Len() != 0 {
		t.Errorf("a row nobody ran printed %q, %v", b.String(), err)
	}
}

func TestJSONHoldsEverySample(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Records[1].Samples[OpsPerSecond]; len(got) != 3 || got[2] != 1202 {
		t.Errorf("samples came back as %v", got)
	}
}

func TestMountTypeIsThatOfTheNearestMount(t *testing.T) {
	mounts := "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp2 xfs rw 0 0\n"
	for dir, want := range map[string]string{
		"/": "ext4", "/var/x": "ext4", "/tmp/x": "tmpfs", "/tmp": "tmpfs", "/tmp2/y": "xfs", "/tmp22": "ext4",
	} {
		if got := mountType(mounts, dir); got != want {
			t.Errorf("%s is on %s, want %s", dir, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	h, err := Describe(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if h.FsyncP50 <= 0 || h.FsyncP99 < h.FsyncP50 {
		t.Errorf("fsync p50 %s, p99 %s", h.FsyncP50, h.FsyncP99)
	}
	h.FileSystem = "tmpfs"
	h.Peers["etcd"] = "3.7.3"
	var b strings.Builder
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"WARNING", "etcd: 3.7.3", "cores"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("header does not say %q:\n%s", want, b.String())
		}
	}
}
