package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/pkg/v3/cobrautl"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// The values of -w. Our verbs have all of theirs; of etcdctl's each verb has some.
var (
	OurFormats  = []string{"simple", "table", "json", "yaml"}
	EtcdFormats = []string{"simple", "fields", "json", "protobuf", "table"}
)

// CheckFormat refuses a value of -w that is none of formats.
func CheckFormat(format string, formats []string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	last := len(formats) - 1
	there := strings.Join(formats[:last], ", ") + " and " + formats[last]
	return ExitWith(cobrautl.ExitBadFeature, fmt.Errorf("unsupported output format %q: there are %s", format, there))
}

// Printer prints what a verb of ours has to say in the format that -w names.
type Printer struct {
	out    io.Writer
	Format string // one of ourFormats
}

// NewPrinter prints to the standard output of cmd; an unknown format is an error.
func NewPrinter(cmd *cobra.Command) (*Printer, error) {
	format, err := cmd.Flags().GetString("write-out")
	if err != nil {
		return nil, err
	}
	return &Printer{cmd.OutOrStdout(), format}, CheckFormat(format, OurFormats)
}

// Print writes form as JSON on one line or as a YAML document, and in the formats for people what text writes. A
// proto.Message has the names of its .proto, all fields, and 64-bit numbers as strings; any other form is what its json
// tags make of it. What is printed leaves in one write.
func (p *Printer) Print(form any, text func(w io.Writer)) error {
	var out bytes.Buffer
	switch p.Format {
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

// PrintTable is print with a table for people, whose first row is the head.
func (p *Printer) PrintTable(form any, rows ...[]any) error {
	return p.Print(form, func(w io.Writer) { Table(w, rows...) })
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

// Table writes rows of cells in columns.
func Table(w io.Writer, rows ...[]any) {
	Columns(func(w io.Writer) {
		for _, cells := range rows {
			Row(w, cells...)
		}
	})(w)
}

// Columns makes columns of what fill writes by row.
func Columns(fill func(w io.Writer)) func(w io.Writer) {
	return func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fill(t)
		_ = t.Flush()
	}
}

// Row writes the cells of one row.
func Row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	fmt.Fprintln(w)
}

// Plain is a text that somebody chose, quoted if a terminal would do more than show it.
func Plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// OrDash is plain, and a dash for nothing.
func OrDash(text string) string {
	if text == "" {
		return "-"
	}
	return Plain(text)
}

// HexID writes an id as etcdctl writes that of a lease.
func HexID(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// Stamp is a time as it is printed.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
