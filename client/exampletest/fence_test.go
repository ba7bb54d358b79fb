package exampletest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/fence"
)

// A resource of HTTP asks coord whether the caller still holds the lock, and refuses who does not.
func ExampleHeld_fenced() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	store := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fmt.Println("written") })
	server := httptest.NewServer(fence.Handler(fence.Ask(c, "examples/fenced"), store))
	defer server.Close()
	write := func(held *client.Held) string {
		ctx := fence.WithToken(ctx, fence.Of(held))
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, nil)
		if err != nil {
			return err.Error()
		}
		caller := &http.Client{Transport: &fence.Transport{}}
		defer caller.CloseIdleConnections()
		resp, err := caller.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		return resp.Status
	}
	held, err := c.Lock("examples/fenced").Acquire(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(write(held))
	_ = held.Release(ctx)
	fmt.Println(write(held))
	// Output:
	// written
	// 200 OK
	// 412 Precondition Failed
}
