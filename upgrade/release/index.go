package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/ident"
)

// maxSequence is the largest integer that every JSON reader keeps exact.
const maxSequence = 1<<53 - 1

// Index lists the releases of one program. It is the only signed document
// of a repository that changes; its sequence grows with each change.
type Index struct {
	// Schema is the format's number; see Schema.
	Schema int `json:"schema"`
	// Name is the program's name.
	Name string `json:"name"`
	// Sequence starts at 1 and grows with each signed change.
	Sequence int64 `json:"sequence"`
	// Issued is when the index was signed, in UTC.
	Issued time.Time `json:"issued"`
	// Expires is when hosts stop trusting the index to be current, in UTC.
	Expires time.Time `json:"expires"`
	// Releases is ordered from the oldest version to the newest.
	Releases []IndexEntry `json:"releases"`
}

// IndexEntry is one release in an index.
type IndexEntry struct {
	// Version is an exact SemVer version, unique in the index.
	Version string `json:"version"`
	// Manifest is the lower-case hexadecimal SHA-256 of the manifest.
	Manifest string `json:"manifest"`
	// Size is the manifest's length in bytes.
	Size int64 `json:"size"`
	// Yanked is why the release was withdrawn; empty while it is offered.
	Yanked string `json:"yanked,omitempty"`
}

// Pin returns the pin of the entry.
func (e IndexEntry) Pin() Pin { return Pin{Version: e.Version, Digest: digestPrefix + e.Manifest} }

// ParseIndex decodes and checks an index. It does not check a signature, the
// expiry or the sequence: Client.Index does.
func ParseIndex(data []byte) (*Index, error) {
	x := new(Index)
	if err := decodeDocument("index", data, MaxIndexSize, x); err != nil {
		return nil, err
	}
	if err := x.validate(); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return x, nil
}

func (x *Index) validate() error {
	if err := CheckName(x.Name); err != nil {
		return err
	}
	if x.Sequence < 1 || x.Sequence > maxSequence {
		return fmt.Errorf("sequence %d is not between 1 and %d", x.Sequence, int64(maxSequence))
	}
	if x.Issued.IsZero() || !x.Expires.After(x.Issued) {
		return fmt.Errorf("issued %s and expires %s: want the second after the first", stamp(x.Issued), stamp(x.Expires))
	}
	seen := map[string]bool{}
	for _, e := range x.Releases {
		if _, err := ParseVersion(e.Version); err != nil {
			return err
		}
		if seen[e.Version] {
			return fmt.Errorf("version %s is listed twice", e.Version)
		}
		seen[e.Version] = true
		if !ident.SHA256(e.Manifest) {
			return fmt.Errorf("version %s: manifest digest %.80q is not 64 lower-case hexadecimal digits", e.Version, e.Manifest)
		}
		if e.Size < 1 || e.Size > MaxManifestSize {
			return fmt.Errorf("version %s: manifest size %d is not between 1 and %d", e.Version, e.Size, MaxManifestSize)
		}
	}
	return nil
}

// Find returns the entry of an exact version. It wraps ErrNotFound, with the
// nearest versions, when there is none, and ErrYanked for a withdrawn one.
func (x *Index) Find(version string) (IndexEntry, error) {
	want, err := ParseVersion(version)
	if err != nil {
		return IndexEntry{}, err
	}
	for _, e := range x.Releases {
		if e.Version != version {
			continue
		}
		if e.Yanked != "" {
			return IndexEntry{}, fmt.Errorf("%w: %s %s: %s; %s", ErrYanked, x.Name, version, shown(e.Yanked), x.advice(want))
		}
		return e, nil
	}
	return IndexEntry{}, fmt.Errorf("%w: the index of %s (sequence %d) has no version %s; %s", ErrNotFound, x.Name, x.Sequence, version, x.advice(want))
}

// advice names the offered versions around want.
func (x *Index) advice(want *semver.Version) string {
	const either = 2
	var below, above []*semver.Version
	for _, e := range x.Releases {
		v, err := ParseVersion(e.Version)
		if err != nil || e.Yanked != "" {
			continue
		}
		if v.LessThan(want) {
			below = append(below, v)
		} else {
			above = append(above, v)
		}
	}
	slices.SortFunc(below, (*semver.Version).Compare)
	slices.SortFunc(above, (*semver.Version).Compare)
	near := slices.Concat(below[max(0, len(below)-either):], above[:min(either, len(above))])
	if len(near) == 0 {
		return "it offers no release: publish one first"
	}
	names := make([]string, len(near))
	for i, v := range near {
		names[i] = v.String()
	}
	return "nearest: " + strings.Join(names, ", ")
}

// twin returns the version that differs from version in build metadata only,
// empty if there is none. SemVer gives the two no order, so that nothing could
// tell which is newer.
func (x *Index) twin(version string) string {
	v, err := ParseVersion(version)
	if err != nil {
		return ""
	}
	for _, e := range x.Releases {
		if other, err := ParseVersion(e.Version); err == nil && e.Version != version && other.Equal(v) {
			return e.Version
		}
	}
	return ""
}

// sortReleases orders by precedence, then by text, so that two publishers
// write the same releases in the same order. Nothing is decided on the second:
// see twin.
func (x *Index) sortReleases() {
	slices.SortFunc(x.Releases, func(a, b IndexEntry) int {
		va, errA := ParseVersion(a.Version)
		vb, errB := ParseVersion(b.Version)
		if errA == nil && errB == nil {
			if c := va.Compare(vb); c != 0 {
				return c
			}
		}
		return strings.Compare(a.Version, b.Version)
	})
}

// stamp writes a time as the documents do.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
