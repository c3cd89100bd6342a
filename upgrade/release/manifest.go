package release

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/ident"
)

// Manifest describes one release: what it is called, what it needs, and the
// size and digest of its binary for each platform. It never changes once
// signed. Members that a newer publisher adds are ignored.
type Manifest struct {
	// Schema is the format's number; see Schema.
	Schema int `json:"schema"`
	// Name is the program's name, the same in the index.
	Name string `json:"name"`
	// Version is an exact SemVer version.
	Version string `json:"version"`
	// Revision is the source revision, for people; may be empty.
	Revision string `json:"revision,omitempty"`
	// Created is when the release was built, in UTC.
	Created time.Time `json:"created"`
	// Requires holds the constraints on the host that may take the release.
	Requires Requires `json:"requires,omitzero"`
	// Platforms lists the binaries, at most one a platform.
	Platforms []Platform `json:"platforms"`
	// Annotations are free text for people and other tools.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Requires holds SemVer constraints (such as ">=1.0.0, <3"); an empty one
// always holds.
type Requires struct {
	// Upgrade constrains the version that runs before the upgrade.
	Upgrade string `json:"upgrade,omitempty"`
	// PluginAPI constrains the plugin API version of the host.
	PluginAPI string `json:"plugin_api,omitempty"`
	// ConfigSchema constrains the schema version of the host's configuration.
	ConfigSchema string `json:"config_schema,omitempty"`
}

// Platform is one binary of a release.
type Platform struct {
	// OS is a GOOS value.
	OS string `json:"os"`
	// Arch is a GOARCH value.
	Arch string `json:"arch"`
	// SHA256 is the lower-case hexadecimal digest of the binary.
	SHA256 string `json:"sha256"`
	// Size is the binary's length in bytes.
	Size int64 `json:"size"`
	// Encodings are smaller forms of the whole binary, at most 16.
	Encodings []Encoding `json:"encodings,omitempty"`
	// Deltas make the binary of an older one, at most 64.
	Deltas []Delta `json:"deltas,omitempty"`
	// Build says what the binary was made of; nil if it is not known.
	Build *Build `json:"build,omitempty"`
}

// String returns "os/arch".
func (p Platform) String() string { return p.OS + "/" + p.Arch }

// ParseManifest decodes and checks a manifest. It does not check a
// signature: use Trust.VerifyManifest for bytes from outside.
func ParseManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := decodeDocument("manifest", data, MaxManifestSize, m); err != nil {
		return nil, err
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// Platform returns the binary for goos/goarch, or an error that wraps
// ErrPlatform and lists what there is.
func (m *Manifest) Platform(goos, goarch string) (Platform, error) {
	for _, p := range m.Platforms {
		if p.OS == goos && p.Arch == goarch {
			return p, nil
		}
	}
	return Platform{}, fmt.Errorf("%w: want %s/%s, %s %s has %v: publish a release that includes it",
		ErrPlatform, goos, goarch, m.Name, m.Version, m.Platforms)
}

// Here returns the binary for the platform that this program was built for.
func (m *Manifest) Here() (Platform, error) { return m.Platform(runtime.GOOS, runtime.GOARCH) }

// has reports whether the manifest lists the binary p for p's platform.
func (m *Manifest) has(p Platform) bool {
	listed, err := m.Platform(p.OS, p.Arch)
	return err == nil && listed.SHA256 == p.SHA256 && listed.Size == p.Size
}

// named reports whether both parts can be what Go calls systems: 1 to 32
// lower-case letters and digits.
func (p Platform) named() bool {
	for _, s := range []string{p.OS, p.Arch} {
		if len(s) > 32 || strings.ToLower(s) != s || !ident.Valid(s, "") {
			return false
		}
	}
	return true
}

func (m *Manifest) validate() error {
	if err := CheckName(m.Name); err != nil {
		return err
	}
	if _, err := ParseVersion(m.Version); err != nil {
		return err
	}
	if m.Created.IsZero() {
		return fmt.Errorf("%s %s has no creation time", m.Name, m.Version)
	}
	if err := m.Requires.validate(); err != nil {
		return err
	}
	if len(m.Platforms) == 0 {
		return fmt.Errorf("%s %s lists no platform", m.Name, m.Version)
	}
	seen := map[string]bool{}
	for _, p := range m.Platforms {
		if err := p.validate(); err != nil {
			return err
		}
		if seen[p.String()] {
			return fmt.Errorf("platform %s is listed twice", p)
		}
		seen[p.String()] = true
	}
	return nil
}

func (p Platform) validate() error {
	if !p.named() {
		return fmt.Errorf("platform %.80q: want a GOOS and a GOARCH", p.String())
	}
	if !ident.SHA256(p.SHA256) {
		return fmt.Errorf("platform %s: sha256 %.80q is not 64 lower-case hexadecimal digits", p, p.SHA256)
	}
	if p.Size < 1 || p.Size > MaxBinarySize {
		return fmt.Errorf("platform %s: size %d is not between 1 and %d", p, p.Size, int64(MaxBinarySize))
	}
	if len(p.Encodings) > maxEncodings || len(p.Deltas) > maxDeltas {
		return fmt.Errorf("platform %s: %d encodings and %d deltas, at most %d and %d are read", p, len(p.Encodings), len(p.Deltas), maxEncodings, maxDeltas)
	}
	for _, e := range p.Encodings {
		if err := e.validate(); err != nil {
			return fmt.Errorf("platform %s: encoding: %w", p, err)
		}
	}
	for _, d := range p.Deltas {
		if err := d.validate(); err != nil {
			return fmt.Errorf("platform %s: delta: %w", p, err)
		}
	}
	if err := p.Build.validate(); err != nil {
		return fmt.Errorf("platform %s: %w", p, err)
	}
	return nil
}

func (r Requires) validate() error {
	for _, c := range []struct{ field, constraint string }{
		{"upgrade", r.Upgrade}, {"plugin_api", r.PluginAPI}, {"config_schema", r.ConfigSchema},
	} {
		if c.constraint == "" {
			continue
		}
		if _, err := semver.NewConstraint(c.constraint); err != nil {
			return fmt.Errorf("requires.%s %.100q: %w: write a SemVer constraint, such as >=1.0.0", c.field, c.constraint, err)
		}
	}
	return nil
}
