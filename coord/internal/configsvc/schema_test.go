package configsvc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

const portSchema = `{
	"type": "object",
	"properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}, "bind": {"type": "string", "format": "ipv4"}},
	"required": ["port"],
	"additionalProperties": false
}`

// TestDocumentsObeyTheirSchema: one document's own schema goes before that of the bundle; what fails is told by
// document, path and reason.
func TestDocumentsObeyTheirSchema(t *testing.T) {
	f := start(t)
	for document, schema := range map[string]string{"": portSchema, "list": `{"type":"array","items":{"type":"string"}}`} {
		if err := f.setSchema("s", document, schema); err != nil {
			t.Fatal(err)
		}
	}
	f.publish(request("s", "a.json", `{"port":1,"bind":"10.0.0.1"}`, "a.yaml", "port: 65535\n", "a.yml", "{port: 2}", "list", `["x"]`))
	for _, c := range []struct{ name, content, text string }{
		{"a.json", `{"port":0}`, `document "a.json" at "/port": minimum: got 0, want 1`},
		{"a.json", `{}`, `document "a.json" at "": missing property 'port'`},
		{"a.json", `{"port":1,"bind":"localhost"}`, `at "/bind": 'localhost' is not valid ipv4`},
		{"a.json", `{"port":1,"more":1}`, `at "": additional properties 'more' not allowed`},
		{"a.json", `{"port":1} x`, `document "a.json" at "": does not parse`},
		{"a.json", `port: 1`, `does not parse`},
		{"a.json", ``, `does not parse`},
		{"a.yaml", "port: many\n", `document "a.yaml" at "/port": got string, want integer`},
		{"a.yaml", "port: 1\nport: 2\n", `does not parse`},
		{"a.yaml", "\tport: 1", `does not parse`},
		{"list", `["x",1]`, `document "list" at "/1": got number, want string`},
	} {
		_, err := f.config.Publish(f.ctx, request("s", c.name, c.content))
		f.wantError(err, codes.FailedPrecondition, coordv1.Error_REASON_CONFIG_BAD_DOCUMENT, c.text)
	}
	_, err := f.config.Publish(f.ctx, request("s", "x.json", `{"port":0,"bind":"b","c":1}`, "y.json", "1"))
	f.wantError(err, codes.FailedPrecondition, coordv1.Error_REASON_CONFIG_BAD_DOCUMENT, "; and 1 more")
	var violations []*coordv1.ConfigViolation
	for _, d := range status.Convert(err).Details() {
		if v, ok := d.(*coordv1.ConfigViolations); ok {
			violations = v.Violations
		}
	}
	if len(violations) != 4 || violations[3].Document != "y.json" || violations[2].Path != "/port" ||
		violations[2].Reason != "minimum: got 0, want 1" {
		t.Errorf("the violations are %v", violations)
	}
	if got := f.get("s", 0); got.Number != 1 {
		t.Errorf("a refused document became %v", got)
	}
}

// TestSchemasAreCheckedWhenSet: one that does not parse, reaches outside, or is failed by what is current, is refused.
func TestSchemasAreCheckedWhenSet(t *testing.T) {
	f := start(t)
	f.publish(request("s", "a.json", `{"port":0}`))
	outside := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for schema, text := range map[string]string{
		`{`:                                      "unexpected EOF",
		`{"type":"objekt"}`:                      `at "/type"`,
		`{"properties":{"a":{"minimum":"one"}}}`: `at "/properties/a/minimum"`,
		`{"pattern":"("}`:                        "pattern",
		`{"$ref":"#/$defs/none"}`:                "/$defs/none",
		`{"$ref":"file://` + outside + `"}`:      "outside of the schema",
		`{"$ref":"https://example.com/s.json"}`:  "outside of the schema",
		`{"$schema":"https://example.com/meta"}`: "outside of the schema",
		`[]`:                                     "",
	} {
		f.wantError(f.setSchema("s", "", schema), codes.InvalidArgument, coordv1.Error_REASON_CONFIG_BAD_SCHEMA, text)
	}
	f.wantError(f.setSchema("s", "", portSchema), codes.FailedPrecondition, coordv1.Error_REASON_CONFIG_BAD_DOCUMENT, `document "a.json" at "/port"`)
	f.wantError(f.setSchema("s", "a\x00", "{}"), codes.InvalidArgument, coordv1.Error_REASON_INVALID, "document")
	if resp, err := f.config.GetSchemas(f.ctx, &coordv1.ConfigGetSchemasRequest{Bundle: "s"}); err != nil ||
		len(resp.Schemas.Schemas) != 0 || resp.Revision != 0 {
		t.Errorf("the refused schemas left %v, %v", resp, err)
	}
	for _, schema := range []string{`{}`, `true`, `{"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#"}}}`} {
		if err := f.setSchema("other", "", schema); err != nil {
			t.Errorf("schema %s: %v", schema, err)
		}
	}
	// The last one refers to itself without end.
	_, err := f.config.Publish(f.ctx, request("other", "d", "1"))
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("against an endless schema: %v", err)
	}
}

func TestSchemasAreReadAndRemoved(t *testing.T) {
	f := start(t)
	for _, document := range []string{"b", "a", ""} {
		if err := f.setSchema("s", document, `{"type":"object"}`); err != nil {
			t.Fatal(err)
		}
	}
	names := func() string {
		t.Helper()
		resp, err := f.config.GetSchemas(f.ctx, &coordv1.ConfigGetSchemasRequest{Bundle: "s"})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range resp.Schemas.Schemas {
			fmt.Fprintf(&b, "%q=%s ", s.Document, s.Content)
		}
		return b.String()
	}
	if got := names(); got != `""={"type":"object"} "a"={"type":"object"} "b"={"type":"object"} ` {
		t.Error(got)
	}
	for _, document := range []string{"a", "", "b"} {
		if err := f.setSchema("s", document, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(); got != "" {
		t.Error(got)
	}
	f.publish(request("s", "a", "no object"))
}

// TestCurrentAlwaysObeysTheSchema races publications against changes of the schema, and then looks at every revision:
// the document that was current obeyed the schema that was set, whichever of the two came last.
func TestCurrentAlwaysObeysTheSchema(t *testing.T) {
	f := start(t)
	kinds := []string{`"s"`, `1`, `{}`}
	schemas := []string{`{"type":"string"}`, `{"type":"integer"}`, `{"type":"object"}`}
	begin := f.publish(request("race", "d", `1`)).Revision
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for range 60 {
				if _, err := f.config.Publish(f.ctx, request("race", "d", kinds[i])); err != nil &&
					status.Code(err) != codes.FailedPrecondition {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for n := range 60 {
				schema := schemas[i]
				if n%2 == 1 {
					schema = ""
				}
				if err := f.setSchema("race", "", schema); err != nil && status.Code(err) != codes.FailedPrecondition {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	end, err := f.etcd.Get(f.ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	for rev := begin; rev <= end.Header.Revision; rev++ {
		resp, err := f.etcd.Get(f.ctx, layout.Bundle.Prefix("race"), clientv3.WithRange(layout.VersionKey("race", 0)),
			clientv3.WithRev(rev))
		if err != nil {
			t.Fatal(err)
		}
		var v coordv1.ConfigVersion
		if err := proto.Unmarshal(resp.Kvs[0].Value, &v); err != nil {
			t.Fatal(err)
		}
		content, schema := string(v.Documents[0].Content), ""
		if len(resp.Kvs) == 2 {
			var s coordv1.ConfigSchemas
			if err := proto.Unmarshal(resp.Kvs[1].Value, &s); err != nil {
				t.Fatal(err)
			}
			schema = string(s.Schemas[0].Content)
		}
		for i, kind := range kinds {
			if content == kind && schema != "" && schema != schemas[i] {
				t.Fatalf("at revision %d the document is %s and the schema %s", rev, content, schema)
			}
		}
		seen[content+" "+schema]++
	}
	if len(seen) < 4 {
		t.Errorf("nothing came between: %v", seen)
	}
}
