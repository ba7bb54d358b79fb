package configsvc

import (
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// FuzzSchema: no schema and no document takes the member down, and what a schema refuses is told in bounds.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"minimum":1}},"required":["a"]}`, "a: 1\n", true)
	f.Add(`{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#"}}}}`, "[[1]]", false)
	f.Add(`{"$schema":"http://json-schema.org/draft-04/schema#","dependencies":{"a":["b"]},"pattern":"^(a|b)*$"}`, `{"a":"x"}`, false)
	f.Add(`{"$dynamicRef":"#x","$dynamicAnchor":"x","unevaluatedProperties":false,"format":"uri-reference"}`, "&a [*a]", true)
	f.Fuzz(func(t *testing.T, schema, content string, isYAML bool) {
		if _, err := compile([]byte(schema)); err != nil {
			return
		}
		d := &coordv1.ConfigDocument{Name: "d.json", Content: []byte(content)}
		if isYAML {
			d.Name = "d.yaml"
		}
		err := validate(&coordv1.ConfigSchemas{
			Schemas: []*coordv1.ConfigSchema{{Content: []byte(schema)}},
		}, []*coordv1.ConfigDocument{d})
		if err != nil && len(err.Error()) > 2048 {
			t.Errorf("a refusal of %d bytes: %.200s", len(err.Error()), err)
		}
	})
}
