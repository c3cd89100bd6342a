package release

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/ident"
)

// maxVersionLength keeps a version usable as part of a file name.
const maxVersionLength = 128

const digestPrefix = "sha256:"

// Pin names one release for ever: a version, and the digest of the manifest
// that the version had when it was pinned. The zero value names nothing.
type Pin struct {
	// Version is an exact SemVer version without a leading v.
	Version string `json:"version"`
	// Digest is "sha256:" and the lower-case hexadecimal SHA-256 of the
	// manifest's bytes.
	Digest string `json:"digest"`
}

// String returns "1.2.0@sha256:…", which ParsePin reads back.
func (p Pin) String() string {
	if p.IsZero() {
		return ""
	}
	return p.Version + "@" + p.Digest
}

// IsZero reports whether p names nothing.
func (p Pin) IsZero() bool { return p == Pin{} }

// Validate reports what keeps p from naming a release.
func (p Pin) Validate() error {
	if _, err := ParseVersion(p.Version); err != nil {
		return err
	}
	hexDigest, ok := strings.CutPrefix(p.Digest, digestPrefix)
	if !ok || !ident.SHA256(hexDigest) {
		return fmt.Errorf("digest %.100q of version %s: want sha256: and 64 lower-case hexadecimal digits", p.Digest, p.Version)
	}
	return nil
}

// hex returns the digest without its prefix.
func (p Pin) hex() string { return strings.TrimPrefix(p.Digest, digestPrefix) }

// ParsePin reads the form that String writes. A version alone is refused:
// only the signed index can tell which digest belongs to it.
func ParsePin(s string) (Pin, error) {
	version, digest, ok := strings.Cut(s, "@")
	if !ok {
		return Pin{}, fmt.Errorf("pin %.100q: want version@sha256:digest, such as 1.2.0@sha256:4f…; release resolve prints that of a version", s)
	}
	p := Pin{Version: version, Digest: digest}
	if err := p.Validate(); err != nil {
		return Pin{}, fmt.Errorf("pin %.100q: %w", s, err)
	}
	return p, nil
}

// ParseVersion reads an exact SemVer version, such as 1.2.0 or 2.0.0-rc.1.
// Everything that can name different releases at different times (latest,
// stable, dev, a branch, v1, 1.2) is refused with an error that wraps
// ErrFloatingTag and says what to write.
func ParseVersion(s string) (*semver.Version, error) {
	if len(s) > maxVersionLength {
		return nil, fmt.Errorf("%w: %.40q… has %d characters, at most %d are allowed", ErrFloatingTag, s, len(s), maxVersionLength)
	}
	v, err := semver.StrictNewVersion(s)
	if err == nil && v.String() == s {
		return v, nil
	}
	return nil, fmt.Errorf("%w: %q %s", ErrFloatingTag, s, versionAdvice(s))
}

// partialVersion is a regular expression. It is compiled where it is wanted:
// every program that links this package would wait for it at its start.
const partialVersion = `^v?[0-9]+(\.([0-9]+|[xX*]))?(\.[xX*])?$`

// leadingZeros is a regular expression for numbers of a version; see
// partialVersion.
const leadingZeros = `(^v?|[.-])0+([0-9])`

// withoutZeros returns the exact version that s is but for zeros at the
// beginning of its numbers; false if it is another thing.
func withoutZeros(s string) (bare string, ok bool) {
	bare = strings.TrimPrefix(regexp.MustCompile(leadingZeros).ReplaceAllString(s, "$1$2"), "v")
	_, err := semver.StrictNewVersion(bare)
	return bare, err == nil && bare != s
}

// versionAdvice says why s is no exact version and what to write instead.
func versionAdvice(s string) string {
	if bare, ok := strings.CutPrefix(s, "v"); ok {
		if _, err := semver.StrictNewVersion(bare); err == nil {
			return "has a leading v: write " + bare
		}
	}
	if bare, ok := withoutZeros(s); ok {
		return "has a number that begins with 0: write " + bare
	}
	switch {
	case s == "":
		return "is empty: write all three numbers, such as 1.2.0"
	case regexp.MustCompile(partialVersion).MatchString(s):
		return "is a partial version, which moves with each release: write all three numbers, such as 1.2.0"
	case strings.ContainsAny(s, "<>=^~|, "):
		return "is a range, which moves with each release: write one version, such as 1.2.0, or the one that release resolve RANGE prints"
	}
	return "is a tag or branch that can move: write the version that it stands for now, such as 1.2.0"
}
