package process

import (
	"os"
	"testing"
	"time"
)

func TestParseStatCountsFieldsAfterTheName(t *testing.T) {
	line := "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 9 0 100 1000 200 18446744073709551615\n"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if want := 1680 * time.Millisecond; got != want {
		t.Errorf("cpu is %s, want %s", got, want)
	}
}

func TestParseStatRefusesWhatItCannotRead(t *testing.T) {
	for _, line := range []string{"", "42 name S 1", "42 (x) S 1 2 3", "42 (x) S 1 42 42 0 -1 0 1 0 0 0 many 45 0"} {
		if _, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
}

func TestParseStatus(t *testing.T) {
	rss, peak, err := parseStatus([]byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"))
	if err != nil {
		t.Fatal(err)
	}
	if rss != 1<<20 || peak != 2<<20 {
		t.Errorf("rss %d and peak %d, want 1 and 2 MiB", rss, peak)
	}
	if _, _, err := parseStatus([]byte("Name:\tx\nVmRSS:\t1 kB\n")); err == nil {
		t.Error("a status without VmHWM was accepted")
	}
}

func TestProcessUsageOfThisProcess(t *testing.T) {
	before, err := usage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
	}
	after, err := usage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after.CPU <= before.CPU {
		t.Errorf("cpu went from %s to %s while this process span", before.CPU, after.CPU)
	}
	if after.RSS <= 0 || after.Peak < after.RSS {
		t.Errorf("rss %d, peak %d", after.RSS, after.Peak)
	}
}
