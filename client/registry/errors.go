package registry

import (
	"errors"

	"github.com/coord-dev/coord/proto/instances"
)

// Errors of an instance that is no good: of Register and of Instance.Validate. Change the instance.
var (
	// ErrNoAddress: an instance has no address that could be connected to, host:port with a port above 0.
	ErrNoAddress = instances.ErrNoAddress
	// ErrBadName: the name of a service or an id is empty, longer than 256 bytes, reserved, or has characters that
	// cannot be shown. List and Watch have it, too.
	ErrBadName = instances.ErrBadName
	// ErrBadWeight: a weight is not between 1 and 65535.
	ErrBadWeight = instances.ErrBadWeight
	// ErrBadState: a state is none of the four.
	ErrBadState = instances.ErrBadState
	// ErrBadProbe: a probe has no usable target, or times out of range.
	ErrBadProbe = instances.ErrBadProbe
	// ErrTooLarge: the record of an instance is larger than 64 KiB.
	ErrTooLarge = instances.ErrTooLarge
)

// Errors of registering.
var (
	// ErrNameTaken: a lock or an election has the name of the service, so etcd's resolver cannot find the instance
	// below it (Instance.Mirror). Use another name, or no Mirror. An instance that was registered before tries again
	// until the name is free.
	ErrNameTaken = errors.New("a lock or an election has the name of the service")
	// ErrRefused: the cluster does not take an instance that is valid here: it may not probe the address. Ask its
	// operator which it may, or do without a probe.
	ErrRefused = errors.New("the cluster refuses the instance")
)

// Errors of an instance that is registered no more, of Registration.Err and of its methods.
var (
	// ErrReplaced: another session registered an instance of the same service and id. Two processes with one id replace
	// each other for as long as both register again: end one, or give it another id.
	ErrReplaced = errors.New("the instance was registered by somebody else")
	// ErrDeregistered: this process deregistered the instance.
	ErrDeregistered = errors.New("deregistered")
)

// ErrNotFound: there is no such instance, of Drain and Undrain.
var ErrNotFound = errors.New("no such instance")
