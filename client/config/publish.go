package config

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/user"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// PutOption configures Put.
type PutOption interface {
	apply(*putOptions)
	forPut()
}

// RollbackOption configures Rollback. Each is a PutOption, too.
type RollbackOption interface {
	PutOption
	forRollback()
}

// DeleteOption configures Delete.
type DeleteOption interface {
	apply(*putOptions)
	forDelete()
}

// SchemaOption configures SetSchema.
type SchemaOption interface {
	apply(*putOptions)
	forSchema()
}

// AuthorOption is for all that leave a trace of who did it.
type AuthorOption interface {
	RollbackOption
	SchemaOption
}

// ExpectOption is for all that replace or delete a version.
type ExpectOption interface {
	RollbackOption
	DeleteOption
}

type putOptions struct {
	author   string
	expected *int64
	keep     int32
}

// putOption implements all interfaces; what its constructors return says which of them it is for.
type putOption func(*putOptions)

func (p putOption) apply(o *putOptions) { p(o) }
func (putOption) forPut()               {}
func (putOption) forRollback()          {}
func (putOption) forDelete()            {}
func (putOption) forSchema()            {}

// Author says who publishes. Default: user@host of this process.
func Author(author string) AuthorOption { return putOption(func(o *putOptions) { o.author = author }) }

// Expect makes the publication fail with ErrConflict unless version number is current; 0: unless there is none. Of
// several that expect the same version exactly one succeeds.
func Expect(number int64) ExpectOption {
	return putOption(func(o *putOptions) { o.expected = &number })
}

// Keep says how many versions to keep from now on, 1 to 1000; at first 100.
func Keep(versions int) PutOption { return putOption(func(o *putOptions) { o.keep = int32(versions) }) }

func putOptionsOf[O interface{ apply(*putOptions) }](opts []O) putOptions {
	o := putOptions{author: Self()}
	for _, opt := range opts {
		opt.apply(&o)
	}
	return o
}

// Self is the default author: user@host.
func Self() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return name + "@" + host
}

// Put publishes documents as the next version, in place of all there are. The reason is required. It is repeated while
// the outcome is unknown, until ctx ends, and publishes once if it has an Expect; without, it may publish twice if
// somebody else publishes between two attempts.
func Put(ctx context.Context, conn grpc.ClientConnInterface, bundle string, documents Documents, reason string,
	opts ...PutOption) (Version, error) {
	o := putOptionsOf(opts)
	req := &coordv1.ConfigPublishRequest{
		Bundle: bundle, Documents: protoDocuments(documents), Author: o.author, Reason: reason,
		Expected: o.expected, Keep: o.keep, RequestId: rand.Text(),
	}
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).Publish, req)
	return versionOf(resp.GetVersion()), err
}

// Rollback publishes the documents of an earlier version as the next one. Like Put otherwise.
func Rollback(ctx context.Context, conn grpc.ClientConnInterface, bundle string, number int64, reason string,
	opts ...RollbackOption) (Version, error) {
	o := putOptionsOf(opts)
	req := &coordv1.ConfigRollbackRequest{
		Bundle: bundle, Version: number, Author: o.author, Reason: reason, Expected: o.expected, RequestId: rand.Text(),
	}
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).Rollback, req)
	return versionOf(resp.GetVersion()), err
}

// Get returns a version, the current one for number 0.
func Get(ctx context.Context, conn grpc.ClientConnInterface, bundle string, number int64) (Version, error) {
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).Get,
		&coordv1.ConfigGetRequest{Bundle: bundle, Version: number})
	return versionOf(resp.GetVersion()), err
}

// History returns the newest limit versions that are kept, all for 0, the newest first and without documents.
func History(ctx context.Context, conn grpc.ClientConnInterface, bundle string, limit int) ([]Version, error) {
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).History,
		&coordv1.ConfigHistoryRequest{Bundle: bundle, Limit: int32(limit)})
	var versions []Version
	for _, v := range resp.GetVersions() {
		versions = append(versions, versionOf(v))
	}
	return versions, err
}

// Delete deletes a bundle: all its versions, its schemas and the reports of its clients. With Expect, only if that
// version is current. ErrUnknownBundle, ErrConflict.
func Delete(ctx context.Context, conn grpc.ClientConnInterface, bundle string, opts ...DeleteOption) error {
	o := putOptionsOf(opts)
	_, err := repeat(ctx, coordv1.NewConfigClient(conn).Delete,
		&coordv1.ConfigDeleteRequest{Bundle: bundle, Expected: o.expected})
	return err
}

// Difference is how the documents of two versions differ.
type Difference struct {
	From, To  Version // without documents
	Documents []DocumentDiff
}

// DocumentDiff is how a document differs.
type DocumentDiff struct {
	Name string
	// Change is "added", "removed" or "modified".
	Change string
	// Text is a unified diff, "" if one of the contents is binary.
	Text   string
	Binary bool
}

var changes = map[coordv1.ConfigDocumentDiff_Change]string{
	coordv1.ConfigDocumentDiff_CHANGE_ADDED:    "added",
	coordv1.ConfigDocumentDiff_CHANGE_REMOVED:  "removed",
	coordv1.ConfigDocumentDiff_CHANGE_MODIFIED: "modified",
}

// Diff compares two versions; to is the current one if 0. Documents that are the same are left out.
func Diff(ctx context.Context, conn grpc.ClientConnInterface, bundle string, from, to int64) (Difference, error) {
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).Diff,
		&coordv1.ConfigDiffRequest{Bundle: bundle, From: from, To: to})
	if err != nil {
		return Difference{}, err
	}
	d := Difference{From: versionOf(resp.From), To: versionOf(resp.To)}
	for _, doc := range resp.Documents {
		d.Documents = append(d.Documents,
			DocumentDiff{Name: doc.Name, Change: changes[doc.Change], Text: doc.Text, Binary: doc.Binary})
	}
	return d, nil
}

// Schema is the JSON Schema of a document, or of all that have none of their own if Document is "".
type Schema struct {
	Document string
	Content  []byte
	Author   string
	Reason   string
	Time     time.Time
}

// SetSchema sets the schema for a document of bundle, for all that have none of their own if document is "", and
// removes it if schema is empty. ErrBadSchema: it does not parse; ErrBadDocument: the current version fails it.
func SetSchema(ctx context.Context, conn grpc.ClientConnInterface, bundle, document string, schema []byte,
	reason string, opts ...SchemaOption) error {
	o := putOptionsOf(opts)
	_, err := repeat(ctx, coordv1.NewConfigClient(conn).SetSchema, &coordv1.ConfigSetSchemaRequest{
		Bundle: bundle, Document: document, Content: schema, Author: o.author, Reason: reason,
	})
	return err
}

// Schemas returns the schemas of a bundle, in the order of their documents' names.
func Schemas(ctx context.Context, conn grpc.ClientConnInterface, bundle string) ([]Schema, error) {
	resp, err := repeat(ctx, coordv1.NewConfigClient(conn).GetSchemas, &coordv1.ConfigGetSchemasRequest{Bundle: bundle})
	var schemas []Schema
	for _, s := range resp.GetSchemas().GetSchemas() {
		schemas = append(schemas,
			Schema{Document: s.Document, Content: s.Content, Author: s.Author, Reason: s.Reason,
				Time: time.UnixMilli(s.TimeUnixMs)})
	}
	return schemas, err
}

// repeat calls until the outcome is known or ctx ends. All requests can be repeated.
func repeat[Q, R any](ctx context.Context, call func(context.Context, Q, ...grpc.CallOption) (R, error), req Q) (R,
	error) {
	var none R
	for p := (pause{}); ; {
		resp, err := call(ctx, req)
		if err == nil {
			return resp, nil
		}
		if status.Code(err) != codes.Unavailable {
			return none, fromWire(err)
		}
		if !p.sleep(ctx) {
			return none, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
