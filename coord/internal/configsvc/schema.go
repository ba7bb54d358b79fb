package configsvc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

func (s *Service) SetSchema(
	ctx context.Context, req *coordv1.ConfigSetSchemaRequest,
) (*coordv1.ConfigSetSchemaResponse, error) {
	if err := checkSetSchema(req); err != nil {
		return nil, err
	}
	resp := &coordv1.ConfigSetSchemaResponse{}
	err := s.change(ctx, req.Bundle, func(st *state) (done bool, err error) {
		schemas := withSchema(st.schemas, req)
		if size := proto.Size(schemas); size > maxSchemas {
			return true, tooLarge("the schemas of bundle %q have %d bytes, more than %d", req.Bundle, size, maxSchemas)
		}
		if err := validate(schemas, st.current.GetDocuments()); err != nil {
			return true, err
		}
		value, err := proto.Marshal(schemas)
		if err != nil {
			return true, fmt.Errorf("encode schemas of %q: %w", req.Bundle, err)
		}
		if len(schemas.Schemas) == 0 {
			value = []byte{} // none any more
		}
		resp.Revision, err = s.commit(ctx, st, &recipesv1.ConfigCommit{Schemas: value})
		return resp.Revision != 0, err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func checkSetSchema(req *coordv1.ConfigSetSchemaRequest) error {
	if err := checkName("bundle", req.Bundle); err != nil {
		return err
	}
	if req.Document != "" {
		if err := checkName("document", req.Document); err != nil {
			return err
		}
	}
	if len(req.Content) > maxSchemas {
		return tooLarge("the schema has %d bytes, more than %d", len(req.Content), maxSchemas)
	}
	if len(req.Content) > 0 {
		if _, err := compile(req.Content); err != nil {
			return refuse(codes.InvalidArgument, coordv1.Error_REASON_CONFIG_BAD_SCHEMA,
				"the schema does not parse: %v", err)
		}
	}
	return checkAuthor(req.Author, req.Reason)
}

// withSchema returns schemas with one replaced, added or removed.
func withSchema(schemas *coordv1.ConfigSchemas, req *coordv1.ConfigSetSchemaRequest) *coordv1.ConfigSchemas {
	next := slices.DeleteFunc(slices.Clone(schemas.Schemas), func(sc *coordv1.ConfigSchema) bool {
		return sc.Document == req.Document
	})
	if len(req.Content) > 0 {
		next = append(next, &coordv1.ConfigSchema{
			Document: req.Document, Content: req.Content, Author: req.Author, Reason: req.Reason,
			TimeUnixMs: time.Now().UnixMilli(),
		})
	}
	slices.SortFunc(next, func(a, b *coordv1.ConfigSchema) int { return strings.Compare(a.Document, b.Document) })
	return &coordv1.ConfigSchemas{Schemas: next}
}

// schemaURL is where a schema stands for the library, so that references inside of it have something to be relative to.
const schemaURL = "https://schema.coord.invalid/schema"

// compile parses a JSON Schema that stands alone.
func compile(content []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	schema, err := c.Compile(schemaURL)
	if failed, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if v, ok := errors.AsType[*jsonschema.ValidationError](failed.Err); ok {
			return nil, errors.New(describe(violationsOf("", v)))
		}
	}
	return schema, err
}

// noLoader keeps schemas from reading files, which is what the library does by default.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema", url)
}

// validate checks documents against the schemas that are for them.
func validate(schemas *coordv1.ConfigSchemas, documents []*coordv1.ConfigDocument) error {
	if len(schemas.Schemas) == 0 {
		return nil
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, sc := range schemas.Schemas {
		var err error
		if compiled[sc.Document], err = compile(sc.Content); err != nil {
			return refuse(codes.FailedPrecondition, coordv1.Error_REASON_CONFIG_BAD_SCHEMA,
				"the schema for document %q does not parse: %v", sc.Document, err)
		}
	}
	var violations []*coordv1.ConfigViolation
	for _, d := range documents {
		schema := compiled[d.Name]
		if schema == nil {
			schema = compiled[""]
		}
		if schema != nil {
			violations = append(violations, check(schema, d)...)
		}
	}
	if len(violations) == 0 {
		return nil
	}
	return detailed(codes.FailedPrecondition, "config: "+describe(violations),
		&coordv1.Error{Reason: coordv1.Error_REASON_CONFIG_BAD_DOCUMENT},
		&coordv1.ConfigViolations{Violations: violations})
}

// check checks one document.
func check(schema *jsonschema.Schema, d *coordv1.ConfigDocument) []*coordv1.ConfigViolation {
	instance, err := parse(d)
	if err != nil {
		return []*coordv1.ConfigViolation{{Document: d.Name, Reason: "does not parse: " + oneLine(err.Error())}}
	}
	err = schema.Validate(instance)
	if failed, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return violationsOf(d.Name, failed)
	}
	if err != nil {
		return []*coordv1.ConfigViolation{{Document: d.Name, Reason: oneLine(err.Error())}}
	}
	return nil
}

// parse reads a document as its extension says: YAML, or else JSON.
func parse(d *coordv1.ConfigDocument) (any, error) {
	content := d.Content
	switch path.Ext(d.Name) {
	case ".yaml", ".yml":
		var err error
		if content, err = yaml.YAMLToJSONStrict(content); err != nil {
			return nil, err
		}
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(content))
}

// What is told of a document that fails in many ways.
const (
	maxViolations = 32 // in the detail
	maxDescribed  = 3  // in the text
)

var printer = message.NewPrinter(language.English)

// violationsOf are the leaves of the tree of errors, in the order of their paths.
func violationsOf(document string, failed *jsonschema.ValidationError) []*coordv1.ConfigViolation {
	var leaves []*coordv1.ConfigViolation
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		if len(e.Causes) == 0 {
			leaves = append(leaves, &coordv1.ConfigViolation{
				Document: document, Path: pointer(e.InstanceLocation),
				Reason: oneLine(e.ErrorKind.LocalizedString(printer)),
			})
		}
	}
	walk(failed)
	slices.SortFunc(leaves, func(a, b *coordv1.ConfigViolation) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason))
	})
	return leaves[:min(len(leaves), maxViolations)]
}

// describe is one line.
func describe(violations []*coordv1.ConfigViolation) string {
	var b strings.Builder
	for i, v := range violations {
		if i == maxDescribed {
			fmt.Fprintf(&b, "; and %d more", len(violations)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if v.Document != "" {
			fmt.Fprintf(&b, "document %q ", v.Document)
		}
		fmt.Fprintf(&b, "at %q: %s", v.Path, v.Reason)
	}
	return b.String()
}

// pointer is a JSON pointer (RFC 6901).
func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(t))
	}
	return b.String()
}

// oneLine also bounds what a reason repeats of the document, as a status travels in headers.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
