package configsvc

import (
	"cmp"
	"slices"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Limits, as the proto states them. A version is written twice in one transaction, which must fit a request of etcd's
// default size, 1.5 MiB.
const (
	maxAuthor    = 256
	maxReason    = 4096
	maxRequestID = 64
	maxDocuments = 64
	maxContents  = 512 << 10
	maxSchemas   = 256 << 10

	defaultKeep = 100
	maxKeep     = 1000
)

// check checks everything that does not depend on what is stored.
func (p *publication) check() error {
	if err := p.checkFields(); err != nil {
		return err
	}
	if p.keep < 0 || p.keep > maxKeep {
		return invalid("keep is %d, not in 1 to %d", p.keep, maxKeep)
	}
	return checkDocuments(p.documents)
}

func (p *publication) checkFields() error {
	if err := checkName("bundle", p.bundle); err != nil {
		return err
	}
	switch {
	case len(p.requestID) > maxRequestID:
		return invalid("the request id has %d bytes, more than %d", len(p.requestID), maxRequestID)
	case p.expected != nil && *p.expected < 0:
		return invalid("the expected version is %d", *p.expected)
	case p.reason == "":
		return invalid("the reason is empty: say why the configuration changes")
	}
	return checkAuthor(p.author, p.reason)
}

func checkAuthor(author, reason string) error {
	if len(author) > maxAuthor {
		return tooLarge("the author has %d bytes, more than %d", len(author), maxAuthor)
	}
	if len(reason) > maxReason {
		return tooLarge("the reason has %d bytes, more than %d", len(reason), maxReason)
	}
	return nil
}

// checkName checks the name of a bundle or document.
func checkName(what, name string) error {
	switch layout.FaultOf(name) {
	case layout.Empty:
		return invalid("the name of the %s is empty", what)
	case layout.TooLong:
		return tooLarge("the name of the %s has %d bytes, more than %d", what, len(name), layout.MaxEscaped)
	case layout.Unprintable:
		return invalid("the name of the %s, %q, has control characters or is not UTF-8", what, name)
	}
	return nil
}

// checkDocuments checks documents that are in the order of their names.
func checkDocuments(documents []*coordv1.ConfigDocument) error {
	if len(documents) == 0 {
		return invalid("there are no documents")
	}
	if len(documents) > maxDocuments {
		return tooLarge("there are %d documents, more than %d", len(documents), maxDocuments)
	}
	bytes := 0
	for i, d := range documents {
		if err := checkName("document", d.GetName()); err != nil {
			return err
		}
		if i > 0 && documents[i-1].Name == d.Name {
			return invalid("document %q is there twice", d.Name)
		}
		bytes += len(d.Name) + len(d.Content)
	}
	if bytes > maxContents {
		return tooLarge("the documents have %d bytes, more than %d", bytes, maxContents)
	}
	return nil
}

func sorted(documents []*coordv1.ConfigDocument) []*coordv1.ConfigDocument {
	return slices.SortedStableFunc(slices.Values(documents), func(a, b *coordv1.ConfigDocument) int {
		return cmp.Compare(a.GetName(), b.GetName())
	})
}

func invalid(format string, args ...any) error {
	return refuse(codes.InvalidArgument, coordv1.Error_REASON_INVALID, format, args...)
}

func tooLarge(format string, args ...any) error {
	return refuse(codes.InvalidArgument, coordv1.Error_REASON_TOO_LARGE, format, args...)
}
