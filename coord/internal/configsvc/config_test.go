package configsvc_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// fixture is a member with its Config service and its keys.
type fixture struct {
	*testing.T
	ctx    context.Context
	config coordv1.ConfigClient
	etcd   *clientv3.Client
}

func start(t *testing.T) *fixture {
	t.Helper()
	return startWith(t, coordtest.Options{})
}

func startWith(t *testing.T, options coordtest.Options) *fixture {
	t.Helper()
	return connect(t, coordtest.Start(t, options).Endpoints()...)
}

// connect is a fixture of a server that runs.
func connect(t *testing.T, endpoints ...string) *fixture {
	t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &fixture{T: t, ctx: ctx, config: coordv1.NewConfigClient(etcd.ActiveConnection()), etcd: etcd}
}

// docs makes documents of name and content in turn.
func docs(pairs ...string) []*coordv1.ConfigDocument {
	var documents []*coordv1.ConfigDocument
	for pair := range slices.Chunk(pairs, 2) {
		documents = append(documents, &coordv1.ConfigDocument{Name: pair[0], Content: []byte(pair[1])})
	}
	return documents
}

func request(bundle string, pairs ...string) *coordv1.ConfigPublishRequest {
	return &coordv1.ConfigPublishRequest{Bundle: bundle, Documents: docs(pairs...), Author: "ann", Reason: "because"}
}

func (f *fixture) publish(req *coordv1.ConfigPublishRequest) *coordv1.ConfigVersion {
	f.Helper()
	resp, err := f.config.Publish(f.ctx, req)
	if err != nil {
		f.Fatalf("publish %v: %v", req, err)
	}
	return resp.Version
}

func (f *fixture) get(bundle string, number int64) *coordv1.ConfigVersion {
	f.Helper()
	resp, err := f.config.Get(f.ctx, &coordv1.ConfigGetRequest{Bundle: bundle, Version: number})
	if err != nil {
		f.Fatalf("get version %d of %s: %v", number, bundle, err)
	}
	return resp.Version
}

func (f *fixture) setSchema(bundle, document, schema string) error {
	_, err := f.config.SetSchema(f.ctx, &coordv1.ConfigSetSchemaRequest{
		Bundle: bundle, Document: document, Content: []byte(schema),
	})
	return err
}

// wantError checks code, reason and a part of the text.
func (f *fixture) wantError(err error, code codes.Code, reason coordv1.Error_Reason, text string) {
	f.Helper()
	var got coordv1.Error_Reason
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*coordv1.Error); ok {
			got = e.Reason
		}
	}
	if status.Code(err) != code || got != reason || !strings.Contains(fmt.Sprint(err), text) ||
		strings.Contains(fmt.Sprint(err), "\n") {
		f.Errorf("got %v (%v), want %v %v with %q in one line", err, got, code, reason, text)
	}
}

// TestPublishIsOneTransaction: current and the kept version are written at one revision, with all that was said.
func TestPublishIsOneTransaction(t *testing.T) {
	f := start(t)
	before := time.Now().UnixMilli()
	v1 := f.publish(request("svc/a", "b.yaml", "x: 1", "a.json", "{}"))
	resp, err := f.etcd.Get(f.ctx, layout.Bundle.Prefix("svc/a"), clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 2 {
		t.Fatalf("%v, %v", resp, err)
	}
	for i, key := range []string{"_coord/config/svc%2Fa/current", "_coord/config/svc%2Fa/versions/0000000000000001"} {
		if kv := resp.Kvs[i]; string(kv.Key) != key || kv.ModRevision != v1.Revision ||
			!bytes.Equal(kv.Value, resp.Kvs[0].Value) {
			t.Errorf("key %d is %q at %d, want %q at %d", i, kv.Key, kv.ModRevision, key, v1.Revision)
		}
	}
	want := &coordv1.ConfigVersion{
		Number: 1, Revision: v1.Revision, Author: "ann", Reason: "because", TimeUnixMs: v1.TimeUnixMs,
		Documents: docs("a.json", "{}", "b.yaml", "x: 1"), Keep: 100,
		Hash: coordv1.ConfigHash(docs("a.json", "{}", "b.yaml", "x: 1")),
	}
	for _, number := range []int64{0, 1} {
		if got := f.get("svc/a", number); !proto.Equal(got, want) || got.TimeUnixMs < before {
			t.Errorf("version %d is %v, want %v", number, got, want)
		}
	}
	if v2 := f.publish(request("svc/a", "a.json", "[]")); v2.Number != 2 || v2.Revision <= v1.Revision ||
		len(v2.Documents) != 0 {
		t.Errorf("the second version is %v", v2)
	}
	if got := f.get("svc/a", 0); !proto.Equal(&coordv1.ConfigVersion{Documents: got.Documents},
		&coordv1.ConfigVersion{Documents: docs("a.json", "[]")}) {
		t.Errorf("the current documents are %v", got.Documents)
	}
}

// TestNamesDoNotMix: bundles whose names begin with each other have their own keys.
func TestNamesDoNotMix(t *testing.T) {
	f := start(t)
	names := []string{"a", "a/b", "a/versions", "a/versions/0000000000000002", "a%2Fb", "a/", "ä ö"}
	for range 3 {
		for _, name := range names {
			req := request(name, "d", name)
			req.Keep = 1
			f.publish(req)
		}
	}
	for _, name := range names {
		if v := f.get(name, 0); v.Number != 3 || string(v.Documents[0].Content) != name {
			t.Errorf("bundle %q has %v", name, v)
		}
		if h, err := f.config.History(f.ctx, &coordv1.ConfigHistoryRequest{Bundle: name}); err != nil ||
			len(h.Versions) != 1 {
			t.Errorf("history of %q: %v, %v", name, h, err)
		}
	}
}

// TestExactlyOneWins: of publications that expect the same version one succeeds; without expectation all do, each with
// a number of its own.
func TestExactlyOneWins(t *testing.T) {
	f := start(t)
	const publishers = 16
	round := func(expected *int64) (numbers []int64, conflicts int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range publishers {
			wg.Go(func() {
				req := request("race", "d", fmt.Sprint(i))
				req.Expected = expected
				resp, err := f.config.Publish(f.ctx, req)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					numbers = append(numbers, resp.Version.Number)
				case status.Code(err) == codes.Aborted:
					conflicts++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(numbers)
		return numbers, conflicts
	}
	for n := range int64(5) {
		if numbers, conflicts := round(&n); !slices.Equal(numbers, []int64{n + 1}) || conflicts != publishers-1 {
			t.Errorf("who expected version %d became %v, %d conflicts", n, numbers, conflicts)
		}
	}
	numbers, conflicts := round(nil)
	if conflicts != 0 || len(numbers) != publishers || numbers[0] != 6 || len(slices.Compact(numbers)) != publishers ||
		numbers[publishers-1] != 5+publishers {
		t.Errorf("who expected nothing became %v, %d conflicts", numbers, conflicts)
	}
	req := request("race", "d", "x")
	req.Expected = proto.Int64(3)
	_, err := f.config.Publish(f.ctx, req)
	f.wantError(err, codes.Aborted, coordv1.Error_REASON_CONFIG_CONFLICT, `bundle "race" is at version 21, not 3`)
}

// TestRepeatedRequest: a request whose answer was lost publishes nothing again, whoever published behind it.
func TestRepeatedRequest(t *testing.T) {
	f := start(t)
	req := request("again", "d", "1")
	req.RequestId = "r1"
	first := f.publish(req)
	if again := f.publish(req); !proto.Equal(first, again) {
		t.Errorf("repeated: %v, then %v", first, again)
	}
	req = request("again", "d", "2")
	req.RequestId, req.Expected = "r2", proto.Int64(1)
	second := f.publish(req)
	f.publish(request("again", "d", "3"))
	if again := f.publish(req); !proto.Equal(second, again) || again.Number != 2 {
		t.Errorf("repeated behind another: %v, then %v", second, again)
	}
	back := &coordv1.ConfigRollbackRequest{Bundle: "again", Version: 1, Reason: "bad", RequestId: "r3"}
	for range 2 {
		if resp, err := f.config.Rollback(f.ctx, back); err != nil || resp.Version.Number != 4 ||
			resp.Version.RollbackOf != 1 {
			t.Errorf("rollback: %v, %v", resp, err)
		}
	}
}

// TestHistory: versions outlive the compaction of the store, in a number that each publication can change.
func TestHistory(t *testing.T) {
	f := start(t)
	numbers := func(limit int32) (numbers []int64) {
		t.Helper()
		resp, err := f.config.History(f.ctx, &coordv1.ConfigHistoryRequest{Bundle: "h", Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range resp.Versions {
			if len(v.Documents) != 0 || v.Revision == 0 || v.Reason == "" {
				t.Errorf("history has %v", v)
			}
			numbers = append(numbers, v.Number)
		}
		return numbers
	}
	want := func(from, to int64) (numbers []int64) {
		for n := from; n >= to; n-- {
			numbers = append(numbers, n)
		}
		return numbers
	}
	var last *coordv1.ConfigVersion
	for n := range 105 {
		last = f.publish(request("h", "d", fmt.Sprint(n+1)))
	}
	if got := numbers(0); !slices.Equal(got, want(105, 6)) {
		t.Errorf("after 105 publications: %v", got)
	}
	if got := numbers(17); !slices.Equal(got, want(105, 89)) {
		t.Errorf("the last 17: %v", got)
	}
	if _, err := f.etcd.Compact(f.ctx, last.Revision); err != nil {
		t.Fatal(err)
	}
	if v := f.get("h", 6); string(v.Documents[0].Content) != "6" {
		t.Errorf("version 6 after the compaction: %v", v)
	}
	_, err := f.config.Get(f.ctx, &coordv1.ConfigGetRequest{Bundle: "h", Version: 5})
	f.wantError(err, codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_VERSION, `no version 5`)
	for _, step := range []struct {
		keep     int32
		from, to int64
	}{{3, 106, 104}, {0, 107, 105}, {1, 108, 108}, {2, 109, 108}} {
		req := request("h", "d", "x")
		req.Keep = step.keep
		f.publish(req)
		if got := numbers(0); !slices.Equal(got, want(step.from, step.to)) {
			t.Errorf("keep %d: %v", step.keep, got)
		}
	}
}

// TestRollback: an earlier version comes back as a new one, with an author and a reason of its own.
func TestRollback(t *testing.T) {
	f := start(t)
	for _, content := range []string{"good", "bad", "worse"} {
		f.publish(request("r", "d", content, content, ""))
	}
	resp, err := f.config.Rollback(f.ctx, &coordv1.ConfigRollbackRequest{
		Bundle: "r", Version: 1, Author: "bob", Reason: "errors",
	})
	if err != nil {
		t.Fatal(err)
	}
	v, first := f.get("r", 0), f.get("r", 1)
	if v.Number != 4 || v.RollbackOf != 1 || v.Author != "bob" || v.Reason != "errors" ||
		!bytes.Equal(v.Hash, first.Hash) || len(v.Documents) != 2 || string(v.Documents[0].Content) != "good" {
		t.Errorf("after the rollback %v: %v", resp, v)
	}
	_, err = f.config.Rollback(f.ctx, &coordv1.ConfigRollbackRequest{
		Bundle: "r", Version: 1, Reason: "late", Expected: proto.Int64(3),
	})
	f.wantError(err, codes.Aborted, coordv1.Error_REASON_CONFIG_CONFLICT, "version 4, not 3")
	_, err = f.config.Rollback(f.ctx, &coordv1.ConfigRollbackRequest{Bundle: "r", Version: 9, Reason: "?"})
	f.wantError(err, codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_VERSION, "no version 9")
	_, err = f.config.Rollback(f.ctx, &coordv1.ConfigRollbackRequest{Bundle: "r", Reason: "?"})
	f.wantError(err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "no version 0")
	if err := f.setSchema("r", "bad", `{"type":"object"}`); err != nil {
		t.Fatal(err)
	}
	_, err = f.config.Rollback(f.ctx, &coordv1.ConfigRollbackRequest{Bundle: "r", Version: 2, Reason: "?"})
	f.wantError(err, codes.FailedPrecondition, coordv1.Error_REASON_CONFIG_BAD_DOCUMENT, `document "bad"`)
}

func TestDiff(t *testing.T) {
	f := start(t)
	f.publish(request("d", "same", "=", "gone", "g\n", "text", "1\n2\n3\n4\n5\n6\n", "bin", "\xff"))
	f.publish(request("d", "same", "=", "new", "n\n", "text", "1\n2\nthree\n4\n5\n6\n", "bin", "\xfe"))
	resp, err := f.config.Diff(f.ctx, &coordv1.ConfigDiffRequest{Bundle: "d", From: 1})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, d := range resp.Documents {
		fmt.Fprintf(&got, "[%s %v %v]\n%s", d.Name, d.Change, d.Binary, d.Text)
	}
	want := `[bin CHANGE_MODIFIED true]
[gone CHANGE_REMOVED false]
--- d/gone@1
+++ /dev/null
@@ -1 +0,0 @@
-g
[new CHANGE_ADDED false]
--- /dev/null
+++ d/new@2
@@ -0,0 +1 @@
+n
[text CHANGE_MODIFIED false]
--- d/text@1
+++ d/text@2
@@ -1,6 +1,6 @@
 1
 2
-3
+three
 4
 5
 6
`
	if got.String() != want || resp.From.Number != 1 || resp.To.Number != 2 {
		t.Errorf("got %s\nwant %s", &got, want)
	}
	if resp, err := f.config.Diff(f.ctx, &coordv1.ConfigDiffRequest{Bundle: "d", From: 2, To: 2}); err != nil ||
		len(resp.Documents) != 0 {
		t.Errorf("of a version with itself: %v, %v", resp, err)
	}
}

// TestDiffOfLongDocumentsIsBounded: two documents that have no line in common, of the greatest size there is.
func TestDiffOfLongDocumentsIsBounded(t *testing.T) {
	f := start(t)
	f.publish(request("long", "d", strings.Repeat("a\n", 260_000)))
	f.publish(request("long", "d", strings.Repeat("b\n", 260_000)))
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	resp, err := f.config.Diff(ctx, &coordv1.ConfigDiffRequest{Bundle: "long", From: 1, To: 2})
	if err != nil || !strings.Contains(resp.Documents[0].Text, "+b\n") {
		t.Fatal(err)
	}
}

// TestBadRequestsAreRefusedByName: what is refused leaves no trace.
func TestBadRequestsAreRefusedByName(t *testing.T) {
	f := start(t)
	kept := f.publish(request("ok", "d.json", "{}"))
	many := make([]string, 0, 130)
	for i := range 65 {
		many = append(many, fmt.Sprint(i), "")
	}
	for _, c := range []struct {
		change func(*coordv1.ConfigPublishRequest)
		reason coordv1.Error_Reason
		text   string
	}{
		{func(r *coordv1.ConfigPublishRequest) { r.Bundle = "" }, coordv1.Error_REASON_INVALID,
			"name of the bundle is empty"},
		{func(r *coordv1.ConfigPublishRequest) { r.Bundle = "a\nb" }, coordv1.Error_REASON_INVALID,
			"control characters"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Bundle = strings.Repeat("x", 257)
		}, coordv1.Error_REASON_TOO_LARGE, "257 bytes"},
		{func(r *coordv1.ConfigPublishRequest) { r.Documents = nil }, coordv1.Error_REASON_INVALID, "no documents"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Documents = docs("", "")
		}, coordv1.Error_REASON_INVALID, "name of the document is empty"},
		{func(r *coordv1.ConfigPublishRequest) { r.Documents = docs("a", "", "b", "", "a", "") }, coordv1.Error_REASON_INVALID, `"a" is there twice`},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Documents = docs(many...)
		}, coordv1.Error_REASON_TOO_LARGE, "65 documents"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Documents = docs("a", strings.Repeat("x", 512<<10))
		}, coordv1.Error_REASON_TOO_LARGE, "524289 bytes"},
		{func(r *coordv1.ConfigPublishRequest) { r.Reason = "" }, coordv1.Error_REASON_INVALID, "reason is empty"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Reason = strings.Repeat("x", 4097)
		}, coordv1.Error_REASON_TOO_LARGE, "reason has"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Author = strings.Repeat("x", 257)
		}, coordv1.Error_REASON_TOO_LARGE, "author has"},
		{func(r *coordv1.ConfigPublishRequest) { r.Keep = 1001 }, coordv1.Error_REASON_INVALID, "keep is 1001"},
		{func(r *coordv1.ConfigPublishRequest) { r.Keep = -1 }, coordv1.Error_REASON_INVALID, "keep is -1"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.Expected = proto.Int64(-1)
		}, coordv1.Error_REASON_INVALID, "expected version is -1"},
		{func(r *coordv1.ConfigPublishRequest) {
			r.RequestId = strings.Repeat("x", 65)
		}, coordv1.Error_REASON_INVALID, "request id"},
	} {
		req := request("ok", "d.json", "[]")
		c.change(req)
		_, err := f.config.Publish(f.ctx, req)
		f.wantError(err, codes.InvalidArgument, c.reason, c.text)
	}
	for name, err := range map[string]error{
		"get":     second(f.config.Get(f.ctx, &coordv1.ConfigGetRequest{Bundle: "nobody"})),
		"version": second(f.config.Get(f.ctx, &coordv1.ConfigGetRequest{Bundle: "nobody", Version: 1})),
		"history": second(f.config.History(f.ctx, &coordv1.ConfigHistoryRequest{Bundle: "nobody"})),
		"diff":    second(f.config.Diff(f.ctx, &coordv1.ConfigDiffRequest{Bundle: "nobody", From: 1})),
		"rollback": second(f.config.Rollback(f.ctx,
			&coordv1.ConfigRollbackRequest{Bundle: "nobody", Version: 1, Reason: "?"})),
	} {
		if f.wantError(err, codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_BUNDLE, `no bundle "nobody"`); t.Failed() {
			t.Fatal(name)
		}
	}
	if got := f.get("ok", 0); got.Number != kept.Number || got.Revision != kept.Revision {
		t.Errorf("the refused requests left %v", got)
	}
}

// TestForeignValueIsDataLoss: what stands at a key and is no version is said to be that, and nothing is published on
// top of it.
func TestForeignValueIsDataLoss(t *testing.T) {
	fake := coordtest.NewFake(t)
	if err := fake.Overwrite(layout.CurrentKey("by hand"), []byte("\xff")); err != nil {
		t.Fatal(err)
	}
	f := connect(t, fake.Endpoint())
	_, err := f.config.Get(f.ctx, &coordv1.ConfigGetRequest{Bundle: "by hand"})
	f.wantError(err, codes.DataLoss, 0, "is not a ConfigVersion")
	_, err = f.config.Publish(f.ctx, request("by hand", "d", "x"))
	f.wantError(err, codes.DataLoss, 0, "is not a ConfigVersion")
	if _, err := f.config.Delete(f.ctx, &coordv1.ConfigDeleteRequest{Bundle: "by hand"}); err != nil {
		t.Error(err)
	}
	f.publish(request("by hand", "d", "x"))
}

// TestDelete: a bundle is deleted with all that belongs to it, and with nothing else.
func TestDelete(t *testing.T) {
	f := connect(t, coordtest.NewFake(t).Endpoint())
	for _, bundle := range []string{"svc", "svc/a", "svc0", "svc."} {
		f.publish(request(bundle, "a.json", "{}"))
		f.publish(request(bundle, "a.json", "{}"))
		if err := f.setSchema(bundle, "a.json", "{}"); err != nil {
			t.Fatal(err)
		}
		status := &coordv1.ConfigStatus{Client: "node/1", Seen: 2, Error: "no"}
		if _, err := f.config.Report(f.ctx, &coordv1.ConfigReportRequest{Bundle: bundle, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	one := int64(1)
	_, err := f.config.Delete(f.ctx, &coordv1.ConfigDeleteRequest{Bundle: "svc", Expected: &one})
	f.wantError(err, codes.Aborted, coordv1.Error_REASON_CONFIG_CONFLICT, "at version 2, not 1")
	before := f.keys()
	if _, err := f.config.Delete(f.ctx, &coordv1.ConfigDeleteRequest{Bundle: "svc"}); err != nil {
		t.Fatal(err)
	}
	if after := f.keys(); before != 20 || after != 15 {
		t.Errorf("%d keys, then %d, want 20 and 15", before, after)
	}
	_, err = f.config.Delete(f.ctx, &coordv1.ConfigDeleteRequest{Bundle: "svc"})
	f.wantError(err, codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_BUNDLE, `no bundle "svc"`)
	if v := f.publish(request("svc", "a.json", "{}")); v.Number != 1 {
		t.Errorf("afterwards version %d", v.Number)
	}
}

// keys is the number of keys of all bundles.
func (f *fixture) keys() int64 {
	f.Helper()
	resp, err := f.etcd.Get(f.ctx, "_coord/config/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		f.Fatal(err)
	}
	return resp.Count
}

func TestReportIsChecked(t *testing.T) {
	f := connect(t, coordtest.NewFake(t).Endpoint())
	report := func(bundle, client, text string, lease int64) error {
		_, err := f.config.Report(f.ctx, &coordv1.ConfigReportRequest{
			Bundle: bundle, Lease: lease, Status: &coordv1.ConfigStatus{Client: client, Error: text},
		})
		return err
	}
	f.wantError(report("", "n", "", 0), codes.InvalidArgument, coordv1.Error_REASON_INVALID, "bundle is empty")
	f.wantError(report("b", "", "", 0), codes.InvalidArgument, coordv1.Error_REASON_INVALID, "client is empty")
	f.wantError(report("b", "n", strings.Repeat("x", 4097), 0), codes.InvalidArgument, coordv1.Error_REASON_INVALID,
		"4097 bytes")
	f.wantError(report("b", "n", "", 77), codes.NotFound, coordv1.Error_REASON_LEASE_NOT_FOUND, "lease not found")
	_, err := f.config.Report(f.ctx, &coordv1.ConfigReportRequest{Bundle: "b"})
	f.wantError(err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "client is empty")
	if n := f.keys(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
}

func second[T any](_ T, err error) error { return err }

// TestLargestVersionFits: what the limits allow fits the store's.
func TestLargestVersionFits(t *testing.T) {
	f := start(t)
	req := request(strings.Repeat("ü", 128), "d", strings.Repeat("x", 512<<10-1))
	req.Author, req.Reason = strings.Repeat("a", 256), strings.Repeat("r", 4096)
	f.publish(req)
	schema := `{"description":"` + strings.Repeat("x", 255<<10) + `"}`
	if err := f.setSchema(req.Bundle, "other", schema); err != nil {
		t.Error(err)
	}
	f.wantError(f.setSchema(req.Bundle, "third", schema), codes.InvalidArgument, coordv1.Error_REASON_TOO_LARGE,
		"the schemas of bundle")
}

// TestStoreThatTakesLess: what the limits allow but this store's do not is refused by name, too.
func TestStoreThatTakesLess(t *testing.T) {
	f := startWith(t, coordtest.Options{Configure: func(_ int, c *coord.Config) { c.MaxRequestBytes = 64 << 10 }})
	f.publish(request("small", "d", strings.Repeat("x", 30<<10)))
	_, err := f.config.Publish(f.ctx, request("small", "d", strings.Repeat("x", 33<<10)))
	f.wantError(err, codes.InvalidArgument, coordv1.Error_REASON_TOO_LARGE, "request is too large")
}
