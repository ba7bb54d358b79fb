package guard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// counted is the counter of panics in these tests.
func counted(t *testing.T) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(Panics)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == "test" {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

func TestRecover(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	before := counted(t)
	var told any
	func() {
		defer Recover(zap.New(core), "test", func(cause any) { told = cause })
		panic("no question")
	}()
	if told != "no question" || counted(t) != before+1 {
		t.Errorf("told %v, counted %v", told, counted(t)-before)
	}
	entry := logs.All()[0].ContextMap()
	if logs.Len() != 1 || entry["where"] != "test" || entry["cause"] != "no question" ||
		!strings.Contains(entry["stack"].(string), "TestRecover") {
		t.Errorf("the log says %v", logs.All())
	}
	func() {
		defer Recover(zap.New(core), "test", func(any) { t.Error("nothing panicked") })
	}()
}

func TestLoop(t *testing.T) {
	runs := 0
	Loop(t.Context(), zap.NewNop(), "test", func() {
		if runs++; runs < 3 {
			panic("again")
		}
	})
	if runs != 3 {
		t.Errorf("%d runs", runs)
	}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(HTTP(zap.NewNop(), "test",
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("a page")
			}
			panic(http.ErrAbortHandler)
		})))
	defer server.Close()
	resp, err := http.Get(server.URL + "/panic")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "internal error") {
		t.Errorf("%s: %s", resp.Status, body)
	}
	if resp, err := http.Get(server.URL + "/abort"); err == nil {
		t.Errorf("a handler that gives up the connection is answered by %s", resp.Status)
		resp.Body.Close()
	}
}
