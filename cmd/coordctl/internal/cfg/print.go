package cfg

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// The forms in which -w json and -w yaml print.
type (
	cfgVersion struct {
		Bundle     string            `json:"bundle"`
		Version    int64             `json:"version"`
		Revision   int64             `json:"revision"`
		Author     string            `json:"author"`
		Reason     string            `json:"reason"`
		Time       string            `json:"time"`
		Hash       string            `json:"hash"`
		RollbackOf int64             `json:"rollback_of,omitempty"`
		Keep       int               `json:"keep"`
		Documents  map[string]string `json:"documents,omitempty"`
		Binary     map[string][]byte `json:"binary_documents,omitempty"` // those that are not UTF-8, in base64
	}
	cfgDocumentDiff struct {
		Document string `json:"document"`
		Change   string `json:"change"`
		Binary   bool   `json:"binary,omitempty"`
		Diff     string `json:"diff"`
	}
	cfgDiff struct {
		Bundle    string            `json:"bundle"`
		From      int64             `json:"from"`
		To        int64             `json:"to"`
		Documents []cfgDocumentDiff `json:"documents"`
	}
	cfgSchema struct {
		Document string          `json:"document"`
		Author   string          `json:"author"`
		Reason   string          `json:"reason"`
		Time     string          `json:"time"`
		Schema   json.RawMessage `json:"schema"`
	}
	cfgStatus struct {
		Client          string `json:"client"`
		Seen            int64  `json:"seen"`
		SeenRevision    int64  `json:"seen_revision"`
		Applied         int64  `json:"applied"`
		AppliedRevision int64  `json:"applied_revision"`
		Time            string `json:"time"`
		Error           string `json:"error,omitempty"`
	}
)

func versionForm(name string, v config.Version) cfgVersion {
	form := cfgVersion{
		Bundle: name, Version: v.Number, Revision: v.Revision, Author: v.Author, Reason: v.Reason,
		Time: cli.Stamp(v.Time),
		Hash: v.Hash, RollbackOf: v.RollbackOf, Keep: v.Keep,
	}
	for document, content := range v.Documents {
		if !utf8.Valid(content) {
			if form.Binary == nil {
				form.Binary = map[string][]byte{}
			}
			form.Binary[document] = content
			continue
		}
		if form.Documents == nil {
			form.Documents = map[string]string{}
		}
		form.Documents[document] = string(content)
	}
	return form
}

func (r *cfgRun) printPublished(name string, v config.Version) error {
	return r.Print(versionForm(name, v), func(w io.Writer) {
		fmt.Fprintf(w, "version %d of %s at revision %d\n", v.Number, cli.Plain(name), v.Revision)
	})
}

func (r *cfgRun) printVersion(name string, v config.Version) error {
	return r.Print(versionForm(name, v), func(w io.Writer) {
		names := slices.Sorted(maps.Keys(v.Documents))
		if r.Format == "table" {
			cli.Table(w, versionHead(), versionRow(v))
			rows := [][]any{{"DOCUMENT", "BYTES"}}
			for _, document := range names {
				rows = append(rows, []any{cli.Plain(document), len(v.Documents[document])})
			}
			fmt.Fprintln(w)
			cli.Table(w, rows...)
			return
		}
		for i, document := range names {
			content := v.Documents[document]
			if len(names) > 1 {
				if i > 0 {
					fmt.Fprintln(w)
				}
				fmt.Fprintf(w, "==> %s <==\n", cli.Plain(document))
				if len(content) > 0 && content[len(content)-1] != '\n' {
					content = append(content, '\n')
				}
			}
			_, _ = w.Write(content)
		}
	})
}

func versionHead() []any { return []any{"VERSION", "REVISION", "TIME", "AUTHOR", "REASON"} }

func versionRow(v config.Version) []any {
	reason := cli.Plain(v.Reason)
	if v.RollbackOf != 0 {
		reason = fmt.Sprintf("(back to %d) %s", v.RollbackOf, reason)
	}
	return []any{v.Number, v.Revision, cli.Stamp(v.Time), cli.Plain(v.Author), reason}
}

func (r *cfgRun) printHistory(name string, versions []config.Version) error {
	forms := []cfgVersion{}
	rows := [][]any{versionHead()}
	for _, v := range versions {
		forms = append(forms, versionForm(name, v))
		rows = append(rows, versionRow(v))
	}
	return r.PrintTable(forms, rows...)
}

func (r *cfgRun) printFollowed(name string, v config.Version) error {
	return r.Print(versionForm(name, v), func(w io.Writer) {
		fmt.Fprintf(w, "version %v at revision %v, %v, %v: %v\n", versionRow(v)...)
	})
}

func (r *cfgRun) printDifference(name string, d config.Difference) error {
	form := cfgDiff{Bundle: name, From: d.From.Number, To: d.To.Number, Documents: []cfgDocumentDiff{}}
	for _, doc := range d.Documents {
		form.Documents = append(form.Documents,
			cfgDocumentDiff{Document: doc.Name, Change: doc.Change, Binary: doc.Binary, Diff: doc.Text})
	}
	return r.Print(form, func(w io.Writer) { printDiff(w, d) })
}

func printDiff(w io.Writer, d config.Difference) {
	for _, doc := range d.Documents {
		if doc.Binary {
			fmt.Fprintf(w, "binary document %s was %s\n", cli.Plain(doc.Name), doc.Change)
			continue
		}
		fmt.Fprint(w, doc.Text)
	}
}

func (r *cfgRun) printSchemas(name, document string, schemas []config.Schema) error {
	forms := []cfgSchema{}
	rows := [][]any{{"DOCUMENT", "TIME", "AUTHOR", "REASON", "BYTES"}}
	var chosen *config.Schema
	for _, s := range schemas {
		forms = append(forms,
			cfgSchema{Document: s.Document, Author: s.Author, Reason: s.Reason, Time: cli.Stamp(s.Time),
				Schema: s.Content})
		rows = append(rows,
			[]any{strconv.Quote(s.Document), cli.Stamp(s.Time), cli.Plain(s.Author), cli.Plain(s.Reason),
				len(s.Content)})
		if s.Document == document {
			chosen = &s
		}
	}
	if r.Format == "simple" && chosen == nil {
		if document != "" {
			return fmt.Errorf("%s has no schema for document %s", name, document)
		}
		return fmt.Errorf("%s has no schema for all documents", name)
	}
	return r.Print(forms, func(w io.Writer) {
		if r.Format == "simple" {
			_, _ = w.Write(chosen.Content)
			return
		}
		cli.Table(w, rows...)
	})
}

func (r *cfgRun) printStatuses(statuses []config.Status) error {
	forms := []cfgStatus{}
	rows := [][]any{{"CLIENT", "SEEN", "APPLIED", "TIME", "ERROR"}}
	for _, s := range statuses {
		forms = append(forms, cfgStatus{
			Client: s.Client, Seen: s.Seen, SeenRevision: s.SeenRevision, Applied: s.Applied,
			AppliedRevision: s.AppliedRevision,
			Time:            cli.Stamp(s.Time), Error: s.Error,
		})
		rows = append(rows, []any{cli.Plain(s.Client), s.Seen, s.Applied, cli.Stamp(s.Time), cli.Plain(s.Error)})
	}
	return r.PrintTable(forms, rows...)
}
