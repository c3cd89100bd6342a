package release

import "context"

// Requirement is a condition on a release beside the signatures of the
// release keys, such as a second signature by someone else. It is asked
// before anything of the release but its signed manifest is downloaded.
//
// Implementations must be safe for concurrent use.
type Requirement interface {
	// Check returns nil if m, whose signed bytes have the digest of pin, may
	// be taken. The manifest has been verified. A refusal wraps ErrUntrusted;
	// other errors say that it could not be found out, which refuses the
	// release as well.
	Check(ctx context.Context, m *Manifest, pin Pin) error
	// String names the requirement for people.
	String() string
}

// LocalRequirement is a Requirement that is about this host, such as about what
// goes on there, and needs no network. It is asked again before a release is
// started that was staged earlier, as what it found then may have changed.
type LocalRequirement interface {
	Requirement
	// Local tells it from others.
	Local()
}
