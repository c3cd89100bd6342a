package release

import (
	"context"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// maxRangeLength bounds a range, which is kept in orders and journals.
const maxRangeLength = 256

// Range is a set of versions such as ^1.2.0. It selects nothing by itself:
// whoever asks resolves it once in the signed index, and what is ordered is
// the Pin that came of it. Make one with ParseRange.
type Range struct {
	text         string
	alternatives []alternative
}

// alternative is one of the parts that || separates.
type alternative struct {
	constraint *semver.Constraints
	// named are the releases of which the part names a pre-release.
	named []*semver.Version
}

// IsRange reports whether s is written as a range: with one of the operators
// ^ ~ > < = ! | or as two versions with a hyphen between. It need not be a
// valid one.
func IsRange(s string) bool {
	return strings.ContainsAny(s, "^~<>=!|") || strings.Contains(s, " - ")
}

// ParseRange reads a range: comparisons (>=1.2.0, <2), ^1.2.0 (no other major
// version), ~1.2.3 (no other minor version), 1.2.0 - 1.4.0, separated by
// commas where all must hold and by || where one must. What is no range, such
// as latest or 1.x, is refused with an error that wraps ErrFloatingTag.
func ParseRange(s string) (Range, error) {
	switch {
	case len(s) > maxRangeLength:
		return Range{}, fmt.Errorf("range %.40q… has %d characters, at most %d are taken", s, len(s), maxRangeLength)
	case !IsRange(s):
		_, err := ParseVersion(s)
		if err == nil {
			err = fmt.Errorf("%q is an exact version and no range", s)
		}
		return Range{}, err
	case strings.Contains(s, "+"):
		return Range{}, fmt.Errorf("range %q holds build metadata, which has no order: leave out what follows the +", s)
	}
	r := Range{text: s}
	for part := range strings.SplitSeq(s, "||") {
		c, err := semver.NewConstraint(part)
		if err != nil {
			return Range{}, fmt.Errorf("range %q: %w: write such as ^1.2.0, ~1.2.3 or '>=1.2, <2'", s, err)
		}
		c.IncludePrerelease = true
		r.alternatives = append(r.alternatives, alternative{c, prereleases(part)})
	}
	return r, nil
}

// prereleases returns the releases of which part names a pre-release.
func prereleases(part string) []*semver.Version {
	var named []*semver.Version
	for word := range strings.FieldsFuncSeq(part, func(r rune) bool { return strings.ContainsRune("^~<>=!, ", r) }) {
		if v, err := semver.NewVersion(word); err == nil && v.Prerelease() != "" {
			named = append(named, core(v))
		}
	}
	return named
}

// core is the release that v is, or is a pre-release of.
func core(v *semver.Version) *semver.Version {
	return semver.New(v.Major(), v.Minor(), v.Patch(), "", "")
}

// String returns the range as it was given.
func (r Range) String() string { return r.text }

// Includes reports whether v is in the range. A pre-release is if the range
// names a pre-release of the same release (^1.3.0-rc.1 includes 1.3.0-rc.2 and
// not 1.4.0-rc.1), or if prerelease is set and the range includes the release
// that it leads to: 2.0.0-rc.1 is never in <2. Build metadata counts for
// nothing.
func (r Range) Includes(v *semver.Version, prerelease bool) bool {
	for _, a := range r.alternatives {
		if !a.constraint.Check(v) {
			continue
		}
		if v.Prerelease() == "" || a.names(v) || prerelease && a.constraint.Check(core(v)) {
			return true
		}
	}
	return false
}

func (a alternative) names(v *semver.Version) bool {
	for _, n := range a.named {
		if n.Equal(core(v)) {
			return true
		}
	}
	return false
}

// Select returns the newest release of the index that the range includes and
// that is not withdrawn. Its error wraps ErrYanked if all that fit are
// withdrawn, and otherwise ErrNotFound with what there is. Where the newest
// are two that differ in build metadata only, neither is newer, and it is an
// error.
func (r Range) Select(x *Index, prerelease bool) (IndexEntry, error) {
	var best IndexEntry
	var newest, unripe *semver.Version
	var yanked, twin string
	for _, e := range x.Releases {
		v, err := ParseVersion(e.Version)
		if err != nil {
			return IndexEntry{}, err
		}
		switch {
		case !r.Includes(v, prerelease):
			if r.Includes(v, true) && e.Yanked == "" {
				unripe = v
			}
		case e.Yanked != "":
			yanked = fmt.Sprintf("%s: %s", e.Version, e.Yanked)
		case newest == nil || v.GreaterThan(newest):
			best, newest, twin = e, v, ""
		case v.Equal(newest):
			twin = e.Version
		}
	}
	switch {
	case twin != "":
		return IndexEntry{}, fmt.Errorf("range %s: %s and %s differ in build metadata only, so that neither is newer: ask for one of them by its exact version", r, best.Version, twin)
	case newest != nil:
		return best, nil
	case yanked != "":
		return IndexEntry{}, fmt.Errorf("%w: what %s offers in the range %s (%s); %s", ErrYanked, x.Name, r, yanked, x.offers())
	case unripe != nil:
		return IndexEntry{}, fmt.Errorf("%w: only pre-releases of %s are in the range %s, such as %s: name one in the range, or allow pre-releases", ErrNotFound, x.Name, r, unripe)
	}
	return IndexEntry{}, fmt.Errorf("%w: the index of %s (sequence %d) has no release in the range %s; %s", ErrNotFound, x.Name, x.Sequence, r, x.offers())
}

// offers names the newest releases.
func (x *Index) offers() string {
	end := semver.New(1<<62, 0, 0, "", "")
	return strings.Replace(x.advice(end), "nearest: ", "the newest are ", 1)
}

// ResolveRange pins the newest release of the signed index that is in a range
// (see ParseRange) and not withdrawn; a pre-release only if the range names
// one, or p allows it. It is for whoever asks for an upgrade, once: what they
// order, show and store is the pin, and an agent never sees a range. Whether a
// host takes the release is its own policy's to say.
//
// Errors: those of Index, ErrFloatingTag for what is neither range nor
// version, and those of Range.Select.
func (c *Client) ResolveRange(ctx context.Context, text string, p Policy) (Pin, error) {
	pin, err := c.resolveRange(ctx, text, p)
	return pin, wrap("resolve range", text, err)
}

func (c *Client) resolveRange(ctx context.Context, text string, p Policy) (Pin, error) {
	r, err := ParseRange(text)
	if err != nil {
		return Pin{}, err
	}
	return asking(ctx, c.cfg.Source, func(src Source) (Pin, error) {
		x, err := c.index(ctx, src)
		if err != nil {
			return Pin{}, err
		}
		e, err := r.Select(x, p.AllowPrerelease)
		if err != nil {
			return Pin{}, err
		}
		return e.Pin(), nil
	})
}

// ResolveAny pins what an operator wrote: an exact version, a range, or a
// whole pin, which must be what the signed index lists. Beyond the errors of
// Resolve and ResolveRange it returns ErrDigest for a pin that the index does
// not list.
func (c *Client) ResolveAny(ctx context.Context, text string, p Policy) (Pin, error) {
	if IsRange(text) {
		return c.ResolveRange(ctx, text, p)
	}
	if !strings.Contains(text, "@") {
		return c.Resolve(ctx, text)
	}
	want, err := ParsePin(text)
	if err != nil {
		return Pin{}, wrap("resolve pin", "", err)
	}
	pin, err := c.Resolve(ctx, want.Version)
	if err != nil {
		return Pin{}, err
	}
	if pin != want {
		return Pin{}, wrap("resolve pin", want.String(), fmt.Errorf("%w: the signed index lists %s: ask for that one if it is what you want", ErrDigest, pin))
	}
	return pin, nil
}
