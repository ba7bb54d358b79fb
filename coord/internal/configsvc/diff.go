package configsvc

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// diff compares the documents of two versions. Both are in the order of the names, and so is the result.
func diff(bundle string, from, to *coordv1.ConfigVersion) []*coordv1.ConfigDocumentDiff {
	before, after := contents(from), contents(to)
	var names []string
	for _, d := range slices.Concat(from.Documents, to.Documents) {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	var diffs []*coordv1.ConfigDocumentDiff
	for _, name := range slices.Compact(names) {
		d := &coordv1.ConfigDocumentDiff{Name: name, Change: coordv1.ConfigDocumentDiff_CHANGE_MODIFIED}
		old, was := before[name]
		now, is := after[name]
		oldLabel, newLabel := label(bundle, from, name), label(bundle, to, name)
		switch {
		case !was:
			d.Change, oldLabel = coordv1.ConfigDocumentDiff_CHANGE_ADDED, "/dev/null"
		case !is:
			d.Change, newLabel = coordv1.ConfigDocumentDiff_CHANGE_REMOVED, "/dev/null"
		case old == now:
			continue
		}
		if d.Binary = !utf8.ValidString(old) || !utf8.ValidString(now); !d.Binary {
			d.Text = unified(oldLabel, newLabel, old, now)
		}
		diffs = append(diffs, d)
	}
	return diffs
}

// unified is by lines, whose search is bounded: long ones that differ much come out as a coarse difference.
func unified(oldLabel, newLabel, old, now string) string {
	text, err := udiff.ToUnified(oldLabel, newLabel, old, udiff.Lines(old, now), udiff.DefaultContextLines)
	if err != nil { // edits of its own that do not fit the text
		panic(fmt.Sprintf("diff of %s and %s: %v", oldLabel, newLabel, err))
	}
	return text
}

func label(bundle string, v *coordv1.ConfigVersion, document string) string {
	return fmt.Sprintf("%s/%s@%d", bundle, document, v.Number)
}

func contents(v *coordv1.ConfigVersion) map[string]string {
	m := map[string]string{}
	for _, d := range v.Documents {
		m[d.Name] = string(d.Content)
	}
	return m
}
