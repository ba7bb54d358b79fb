package coordtest_test

import (
	"net/http"
	"testing"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
)

// Every client port serves gRPC and the pages, and a stop closes them all.
func TestSeveralClientPorts(t *testing.T) {
	more := url(coordtest.FreePorts(t, 1)[0])
	c := coordtest.Start(t, coordtest.Options{Configure: func(_ int, c *coord.Config) {
		c.ListenClientURLs = append(c.ListenClientURLs, more)
	}})
	for _, u := range c.Server(0).Config().ListenClientURLs {
		if _, err := dial(t, []string{u}).Put(t.Context(), "k", u); err != nil {
			t.Errorf("put through %s: %v", u, err)
		}
		resp, err := http.Get(u + "/health")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s/health: status %d", u, resp.StatusCode)
		}
	}
	c.StopMember(0)
	if resp, err := http.Get(more + "/health"); err == nil {
		resp.Body.Close()
		t.Errorf("%s answers after the stop", more)
	}
}
