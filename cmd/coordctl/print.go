package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/pkg/v3/cobrautl"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// The values of -w. Our verbs have all of theirs; of etcdctl's each verb has some.
var (
	ourFormats  = []string{"simple", "table", "json", "yaml"}
	etcdFormats = []string{"simple", "fields", "json", "protobuf", "table"}
)

// checkFormat refuses a value of -w that is none of formats.
func checkFormat(format string, formats []string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	last := len(formats) - 1
	return &exitError{cobrautl.ExitBadFeature, fmt.Errorf("unsupported output format %q: there are %s and %s", format, strings.Join(formats[:last], ", "), formats[last])}
}

// printer prints what a verb of ours has to say in the format that -w names.
type printer struct {
	out    io.Writer
	format string // one of ourFormats
}

// newPrinter prints to the standard output of cmd; an unknown format is an error.
func newPrinter(cmd *cobra.Command) (*printer, error) {
	format, err := cmd.Flags().GetString("write-out")
	if err != nil {
		return nil, err
	}
	return &printer{cmd.OutOrStdout(), format}, checkFormat(format, ourFormats)
}

// print writes form as JSON on one line or as a YAML document, and in the formats for people what text writes. A
// proto.Message has the names of its .proto, all fields, and 64-bit numbers as strings; any other form is what its json tags
// make of it. What is printed leaves in one write.
func (p *printer) print(form any, text func(w io.Writer)) error {
	var out bytes.Buffer
	switch p.format {
	case "json":
		encoded, err := encodeJSON(form)
		if err != nil {
			return err
		}
		out.Write(append(encoded, '\n'))
	case "yaml":
		encoded, err := encodeJSON(form)
		if err != nil {
			return err
		}
		document, err := yaml.JSONToYAML(encoded)
		if err != nil {
			return err
		}
		out.WriteString("---\n")
		out.Write(document)
	default:
		text(&out)
	}
	_, err := p.out.Write(out.Bytes())
	return err
}

// printTable is print with a table for people, whose first row is the head.
func (p *printer) printTable(form any, rows ...[]any) error {
	return p.print(form, func(w io.Writer) { table(w, rows...) })
}

func encodeJSON(form any) ([]byte, error) {
	message, ok := form.(proto.Message)
	if !ok {
		return json.Marshal(form)
	}
	encoded, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer // protojson puts in blanks as it likes
	err = json.Compact(&compact, encoded)
	return compact.Bytes(), err
}

// table writes rows of cells in columns.
func table(w io.Writer, rows ...[]any) {
	columns(func(w io.Writer) {
		for _, cells := range rows {
			row(w, cells...)
		}
	})(w)
}

// columns makes columns of what fill writes by row.
func columns(fill func(w io.Writer)) func(w io.Writer) {
	return func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fill(t)
		_ = t.Flush()
	}
}

// row writes the cells of one row.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	fmt.Fprintln(w)
}

// plain is a text that somebody chose, quoted if a terminal would do more than show it.
func plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// orDash is plain, and a dash for nothing.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return plain(text)
}
