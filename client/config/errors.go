package config

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Errors of this package; test for them with errors.Is. Those that a server reported wrap its gRPC status, too.
var (
	// ErrUnknownBundle: nothing was published under the name, or it was deleted.
	ErrUnknownBundle = errors.New("config: unknown bundle")
	// ErrUnknownVersion: the version was never published, or is not kept any more.
	ErrUnknownVersion = errors.New("config: unknown version")
	// ErrConflict: another version than the expected is current.
	ErrConflict = errors.New("config: conflict")
	// ErrBadSchema: a schema does not parse.
	ErrBadSchema = errors.New("config: bad schema")
	// ErrBadDocument: a document fails its schema. The error is an *InvalidError.
	ErrBadDocument = errors.New("config: bad document")
	// ErrTooLarge: something is over its limit.
	ErrTooLarge = errors.New("config: too large")
	// ErrInvalid: the server refused a malformed request.
	ErrInvalid = errors.New("config: invalid request")
	// ErrRefused: a version could not be decoded, or the client's own Validate refused it. From Watch and Value.Err.
	ErrRefused = errors.New("config: version refused")
)

var sentinels = map[coordv1.Error_Reason]error{
	coordv1.Error_REASON_CONFIG_UNKNOWN_BUNDLE:  ErrUnknownBundle,
	coordv1.Error_REASON_CONFIG_UNKNOWN_VERSION: ErrUnknownVersion,
	coordv1.Error_REASON_CONFIG_CONFLICT:        ErrConflict,
	coordv1.Error_REASON_CONFIG_BAD_SCHEMA:      ErrBadSchema,
	coordv1.Error_REASON_CONFIG_BAD_DOCUMENT:    ErrBadDocument,
	coordv1.Error_REASON_TOO_LARGE:              ErrTooLarge,
	coordv1.Error_REASON_INVALID:                ErrInvalid,
}

// InvalidError is an ErrBadDocument with all that is wrong.
type InvalidError struct {
	Violations []Violation
	status     error
}

// Violation is one way in which a document fails its schema.
type Violation struct {
	Document string
	Path     string // a JSON pointer into the document, "" for the whole
	Reason   string
}

func (e *InvalidError) Error() string   { return status.Convert(e.status).Message() }
func (e *InvalidError) Unwrap() []error { return []error{ErrBadDocument, e.status} }

// serverError is a status with what it means.
type serverError struct{ meaning, status error }

func (e *serverError) Error() string   { return status.Convert(e.status).Message() }
func (e *serverError) Unwrap() []error { return []error{e.meaning, e.status} }

// fromWire turns what a server answered back into the errors of this package.
func fromWire(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	var meaning error
	var violations []Violation
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *coordv1.Error:
			meaning = sentinels[d.Reason]
		case *coordv1.ConfigViolations:
			for _, v := range d.Violations {
				violations = append(violations, Violation{Document: v.Document, Path: v.Path, Reason: v.Reason})
			}
		}
	}
	switch {
	case meaning == ErrBadDocument:
		return &InvalidError{Violations: violations, status: err}
	case meaning != nil:
		return &serverError{meaning, err}
	case st.Code() == codes.Canceled:
		return &serverError{context.Canceled, err}
	case st.Code() == codes.DeadlineExceeded:
		return &serverError{context.DeadlineExceeded, err}
	}
	return err
}
