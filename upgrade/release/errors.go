package release

import (
	"errors"

	"github.com/perennial-go/perennial/internal/disk"
)

// What callers branch on with errors.Is. Every error of this package that
// has one of these causes wraps it, and its text says what was wanted, what
// was found and what to do.
var (
	// ErrUntrusted: a signature is missing, is by a key that is not trusted,
	// does not match the bytes, or covers another program.
	ErrUntrusted = errors.New("not trusted")
	// ErrRevoked: the signing key was revoked. It comes with ErrUntrusted.
	ErrRevoked = errors.New("key revoked")
	// ErrFloatingTag: a version was given that can come to mean something
	// else tomorrow (latest, v1, 1.2, a branch).
	ErrFloatingTag = errors.New("not an exact version")
	// ErrDowngrade: the release is older than what runs.
	ErrDowngrade = errors.New("downgrade refused")
	// ErrNotFound: the repository has no such release or file.
	ErrNotFound = errors.New("not found")
	// ErrYanked: the release was withdrawn by its publisher.
	ErrYanked = errors.New("release withdrawn")
	// ErrExpired: the index or the keyring is past its expiry, so that the
	// repository may be withholding newer releases or revocations.
	ErrExpired = errors.New("expired")
	// ErrReplay: the index or the keyring is older than one that this host
	// has accepted.
	ErrReplay = errors.New("older document replayed")
	// ErrPolicy: the release is outside Policy.
	ErrPolicy = errors.New("outside the upgrade policy")
	// ErrRequires: a constraint in the manifest's requires does not hold.
	ErrRequires = errors.New("requirement not met")
	// ErrDigest: bytes differ from the signed digest or size.
	ErrDigest = errors.New("digest differs")
	// ErrPlatform: the release has no binary for this platform.
	ErrPlatform = errors.New("no binary for this platform")
	// ErrNoSpace: the disk has no room.
	ErrNoSpace = disk.ErrNoSpace
	// ErrLocked: another process publishes to the repository.
	ErrLocked = errors.New("locked by another process")
)

// Error says which operation on which release failed.
type Error struct {
	// Op is the operation in words, such as "read index".
	Op string
	// Release is the pin, version or name concerned; may be empty.
	Release string
	// Err is the cause.
	Err error
}

// Error returns "op release: cause".
func (e *Error) Error() string {
	if e.Release == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Release + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// wrap adds the operation once: an error that already says what failed is
// handed on as it is.
func wrap(op, release string, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*Error](err); known {
		return err
	}
	return &Error{Op: op, Release: release, Err: err}
}
