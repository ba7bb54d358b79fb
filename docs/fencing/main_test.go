//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/coord-dev/coord/coord/coordtest"
)

func TestMain(m *testing.M) {
	if spec, ok := os.LookupEnv(workerEnv); ok { // the processes of the story are this program
		exit(work(context.Background(), spec))
	}
	os.Exit(m.Run())
}

// A holder that was stopped beyond its TTL overwrites what its successor wrote, unless the resource checks tokens.
func TestL3FencedExclusion(t *testing.T) {
	endpoint := coordtest.Start(t, coordtest.Options{}).Endpoints()[0]
	for how, want := range map[protection]outcome{
		unprotected: {file: "alice\n", alice: "wrote", bob: "wrote", aliceEnd: `failed: release lock "ledger": lost: session expired`},
		byMemory:    {file: "bob\n", alice: "refused 412 Precondition Failed: stale fencing token", bob: "wrote", aliceEnd: `failed: release lock "ledger": lost: session expired`},
		byAsking:    {file: "bob\n", alice: "refused 412 Precondition Failed: stale fencing token", bob: "wrote", aliceEnd: `failed: release lock "ledger": lost: session expired`},
	} {
		t.Run(string(how), func(t *testing.T) {
			var story strings.Builder
			got, err := tell(t.Context(), &story, endpoint, how)
			t.Log("\n" + story.String())
			if err != nil {
				t.Fatal(err)
			}
			if got.file != want.file || got.bob != want.bob || !strings.HasPrefix(got.alice, want.alice) || !strings.HasPrefix(got.aliceEnd, want.aliceEnd) {
				t.Errorf("the story ended with %+v, want %+v", got, want)
			}
		})
	}
}
