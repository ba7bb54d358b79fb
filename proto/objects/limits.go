package objects

// Limits, in bytes.
const (
	MaxData   = 65536 // of a member
	MaxReason = 1024  // of a gate
)
