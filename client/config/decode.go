package config

import (
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// decode makes a value of type T of documents: of the one document that was chosen, or there is; else field by field as
// the tags say.
func decode[T any](documents Documents, document string) (T, error) {
	var value T
	dst := reflect.ValueOf(&value).Elem()
	if raw, ok := any(&value).(*Documents); ok {
		*raw = documents
		return value, nil
	}
	if document == "" && tagged(dst.Type()) {
		return value, decodeFields(documents, dst)
	}
	if document == "" {
		if len(documents) != 1 {
			return value, fmt.Errorf("there are %d documents: choose one with Document, decode them with Decode, or "+
				"tag the fields of a struct", len(documents))
		}
		for document = range documents {
		}
	}
	content, ok := documents[document]
	if !ok {
		return value, fmt.Errorf("there is no document %q", document)
	}
	return value, decodeDocument(document, content, dst)
}

// tag names the document that a field of a struct is decoded from: `config:"limits.yaml"`, or with ",optional" behind
// it.
const tag = "config"

func tagged(t reflect.Type) bool {
	return t.Kind() == reflect.Struct &&
		slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
			return f.Tag.Get(tag) != ""
		})
}

func decodeFields(documents Documents, dst reflect.Value) error {
	for _, field := range reflect.VisibleFields(dst.Type()) {
		name, how, _ := strings.Cut(field.Tag.Get(tag), ",")
		if name == "" {
			continue
		}
		content, ok := documents[name]
		switch {
		case !field.IsExported():
			return fmt.Errorf("field %s for document %q is not exported", field.Name, name)
		case !ok && how == "optional":
			continue
		case !ok:
			return fmt.Errorf("there is no document %q", name)
		}
		if err := decodeDocument(name, content, dst.FieldByIndex(field.Index)); err != nil {
			return err
		}
	}
	return nil
}

var protoMessage = reflect.TypeFor[proto.Message]()

// decodeDocument sets dst to what the document says; see the package's doc for the formats.
func decodeDocument(name string, content []byte, dst reflect.Value) error {
	err := decodeContent(path.Ext(name), content, dst)
	if err != nil {
		return fmt.Errorf("document %q: %w", name, err)
	}
	return nil
}

func decodeContent(ext string, content []byte, dst reflect.Value) (err error) {
	isYAML := ext == ".yaml" || ext == ".yml"
	if isYAML {
		if content, err = yaml.YAMLToJSONStrict(content); err != nil {
			return err
		}
	}
	if t := dst.Type(); t.Kind() == reflect.Pointer && t.Implements(protoMessage) {
		m := reflect.New(t.Elem())
		dst.Set(m)
		return decodeProto(ext, content, m.Interface().(proto.Message))
	}
	if !isYAML && ext != ".json" {
		switch raw := dst.Addr().Interface().(type) {
		case *[]byte:
			*raw = content
			return nil
		case *string:
			*raw = string(content)
			return nil
		}
	}
	return json.Unmarshal(content, dst.Addr().Interface())
}

func decodeProto(ext string, content []byte, m proto.Message) error {
	switch ext {
	case ".json", ".yaml", ".yml":
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(content, m)
	case ".txtpb", ".textproto":
		return prototext.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(content, m)
	}
	return proto.Unmarshal(content, m)
}
