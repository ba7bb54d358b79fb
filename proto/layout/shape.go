package layout

import (
	"net/url"
	"slices"
	"strings"
)

// shape is how the keys of a kind go on behind its directory.
type shape interface {
	// begin is what all names that begin with name begin with.
	begin(name string) string
	// keys is the range of a name below dir.
	keys(dir, name string) Range
	join(name string, part Part, id string) string
	// split is the reverse of join. It need not judge the name.
	split(rest string) (name string, part Part, id string, ok bool)
}

// oneKey: the thing is one key.
type oneKey struct{}

func (oneKey) begin(name string) string { return name }

func (oneKey) keys(dir, name string) Range { return Range{Key: dir + name} }

func (oneKey) join(name string, _ Part, _ string) string { return name }

func (oneKey) split(rest string) (name string, part Part, id string, ok bool) {
	return rest, Whole, "", true
}

// entries: the entries of a queue stand directly below its name, beside these records. The words of records are not
// hex, so no record is an entry.
type entries []Part

func (entries) begin(name string) string { return name }

func (entries) keys(dir, name string) Range { return below(dir + name + "/") }

func (e entries) join(name string, part Part, id string) string {
	if slices.Contains(e, part) {
		id = string(part)
	}
	return name + "/" + id
}

func (e entries) split(rest string) (name string, part Part, id string, ok bool) {
	name, id, ok = cutLast(rest)
	if slices.Contains(e, Part(id)) {
		return name, Part(id), "", ok
	}
	if _, _, entry := parseEntry(id); entry {
		return name, Entry, id, ok
	}
	return name, Other, id, ok
}

// members: the members of a group stand directly below its name.
type members struct{}

func (members) begin(name string) string { return name }

func (members) keys(dir, name string) Range { return below(dir + name + "/") }

func (members) join(name string, _ Part, id string) string { return name + "/" + id }

func (members) split(rest string) (name string, part Part, id string, ok bool) {
	name, id, ok = cutLast(rest)
	if CheckMember(id) != nil {
		return name, Other, id, ok
	}
	return name, GroupMember, id, ok
}

// cutLast cuts at the last slash.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// escaped: below the name, which is escaped and so has no slash, are parts of which there is one, and others of which
// there are many, by ids that are escaped, too.
type escaped struct{ one, many []Part }

func (escaped) begin(name string) string { return url.PathEscape(name) }

func (escaped) keys(dir, name string) Range { return below(dir + url.PathEscape(name) + "/") }

func (e escaped) join(name string, part Part, id string) string {
	rest := id
	switch {
	case slices.Contains(e.one, part):
		rest = string(part)
	case slices.Contains(e.many, part):
		rest = string(part) + "/" + url.PathEscape(id)
	}
	return url.PathEscape(name) + "/" + rest
}

func (e escaped) split(rest string) (name string, part Part, id string, ok bool) {
	first, rest, ok := strings.Cut(rest, "/")
	name, canonical := unescape(first)
	if !ok || !canonical {
		return "", "", "", false
	}
	if slices.Contains(e.one, Part(rest)) {
		return name, Part(rest), "", true
	}
	word, last, _ := strings.Cut(rest, "/")
	if id, canonical := unescape(last); canonical && id != "" && slices.Contains(e.many, Part(word)) {
		return name, Part(word), id, true
	}
	return name, Other, rest, true
}

// unescape is the reverse of url.PathEscape; canonical is false for what that does not make.
func unescape(s string) (name string, canonical bool) {
	name, err := url.PathUnescape(s)
	return name, err == nil && url.PathEscape(name) == s
}
