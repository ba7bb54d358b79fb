package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/client/config"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// decoded is what Watch makes of documents.
func decoded[T any](t *testing.T, opts []config.Option, pairs ...string) (T, error) {
	t.Helper()
	s := newFakeStore()
	s.publish("b", pairs...)
	v, err := config.Watch[T](t.Context(), s, "b", opts...)
	if err != nil {
		var none T
		return none, err
	}
	defer v.Close()
	return v.Load(), nil
}

func want[T any](t *testing.T, value T, opts []config.Option, pairs ...string) {
	t.Helper()
	got, err := decoded[T](t, opts, pairs...)
	equal := reflect.DeepEqual(got, value)
	if m, ok := any(value).(proto.Message); ok && err == nil {
		equal = proto.Equal(any(got).(proto.Message), m)
	}
	if err != nil || !equal {
		t.Errorf("%q: %+v, %v; want %+v", pairs, got, err, value)
	}
}

func wantRefused[T any](t *testing.T, text string, opts []config.Option, pairs ...string) {
	t.Helper()
	if got, err := decoded[T](t, opts, pairs...); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%q: %+v, %v; want an error with %q", pairs, got, err, text)
	}
}

func TestFormats(t *testing.T) {
	for _, pair := range [][]string{
		{"a.json", `{"max":3,"unknown":1}`}, {"a.yaml", "max: 3\nunknown: 1\n"}, {"a.yml", "{max: 3}"}, {"a", `{"max":3}`}, {"a.conf", `{"max":3}`},
	} {
		want(t, limits{3}, nil, pair...)
		want(t, &limits{3}, nil, pair...)
	}
	want(t, map[string]any{"max": 3.0}, nil, "a.yaml", "max: 3")
	want(t, "max: 3", nil, "motd.txt", "max: 3")
	want(t, []byte{0xff}, nil, "blob", "\xff")
	want(t, "text", nil, "a.json", `"text"`)
	want(t, "text", nil, "a.yaml", `text`)
	for _, c := range [][]string{
		{"a.json", `{"max":"x"}`}, {"a.json", `{} {}`}, {"a.yaml", "max: 1\nmax: 2"}, {"a.yaml", "\t"}, {"a", "max: 3"}, {"a.json", ""},
	} {
		wantRefused[limits](t, fmt.Sprintf("document %q", c[0]), nil, c...)
	}
}

func TestProtobufFormats(t *testing.T) {
	m := &coordv1.ConfigStatus{Client: "c", Seen: 7}
	encode := func(b []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	binary, text, json := encode(proto.Marshal(m)), encode(prototext.Marshal(m)), encode(protojson.Marshal(m))
	for _, pair := range [][]string{
		{"a.json", json}, {"a.yaml", "client: c\nseen: 7\nunknown: 1\n"}, {"a.txtpb", text}, {"a.textproto", text},
		{"a.binpb", binary}, {"a", binary},
	} {
		want(t, m, nil, pair...)
	}
	wantRefused[*coordv1.ConfigStatus](t, `document "a.json"`, nil, "a.json", binary)
	wantRefused[*coordv1.ConfigStatus](t, `document "a"`, nil, "a", json)
}

// bundle takes several documents, each with its own format, at one revision.
type bundle struct {
	Limits limits                `config:"limits.yaml"`
	Status *coordv1.ConfigStatus `config:"status.json"`
	Motd   string                `config:"motd,optional"`
	Other  int
}

func TestSeveralDocuments(t *testing.T) {
	docs := []string{"limits.yaml", "max: 2", "status.json", `{"client":"c"}`}
	got, err := decoded[bundle](t, nil, docs...)
	if err != nil || got.Limits.Max != 2 || got.Status.GetClient() != "c" || got.Motd != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = decoded[bundle](t, nil, append(docs, "motd", "hello")...); err != nil || got.Motd != "hello" {
		t.Errorf("%+v, %v", got, err)
	}
	wantRefused[bundle](t, `no document "status.json"`, nil, docs[:2]...)
	wantRefused[bundle](t, `document "limits.yaml"`, nil, append(docs[2:], "limits.yaml", "max: x")...)
	wantRefused[limits](t, "there are 2 documents", nil, docs...)
	wantRefused[limits](t, `no document "other"`, []config.Option{config.Document("other")}, docs...)
	want(t, limits{2}, []config.Option{config.Document("limits.yaml")}, docs...)
	want(t, config.Documents{"a": []byte("1"), "b": []byte("2")}, nil, "a", "1", "b", "2")
	count := config.Decode(func(d config.Documents) (int, error) { return len(d), nil })
	want(t, 2, []config.Option{count}, docs...)
	type hidden struct {
		limits limits `config:"limits.yaml"`
	}
	wantRefused[hidden](t, "not exported", nil, docs...)
	_ = hidden{}.limits
}
