package plugin

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// ManifestSuffix ends the name of every manifest file.
const ManifestSuffix = ".plugin.yaml"

// manifestSchema is the manifest format that this version reads and writes.
const manifestSchema = 1

// Bounds on outside bytes.
const (
	maxManifestBytes = 64 << 10
	maxManifestDepth = 32
	maxLabelBytes    = 63
)

// Manifest is the content of a NAME.plugin.yaml. It holds no path: the
// executable is the file NAME beside it.
type Manifest struct {
	// Schema is the format's number, 1.
	Schema int `yaml:"schema"`
	// Name is 1 to 63 of a-z, 0-9 and inner hyphens, and the file's name.
	Name string `yaml:"name"`
	// Version is the plugin's own, complete SemVer without a leading v.
	Version string `yaml:"version"`
	// SHA256 is the executable's digest, 64 lower-case hex digits.
	SHA256 string `yaml:"sha256"`
	// Protocol lists the protocol versions that the plugin speaks; one of
	// them must be pluginpb.ProtocolVersion.
	Protocol []int `yaml:"protocol,flow"`
	// Capabilities are the kinds of task that it takes.
	Capabilities []string `yaml:"capabilities,flow"`
	// Host is a SemVer constraint on the host's version, "" for any.
	// Pre-releases of the host are ordered, not excluded.
	Host string `yaml:"host,omitempty"`
	// Required makes Manager.Ready fail while the plugin is not running.
	Required bool `yaml:"required,omitempty"`
	// Settings are handed to the plugin's Start as a JSON object.
	Settings map[string]any `yaml:"settings,omitempty"`
	// Limits bound what the plugin may use.
	Limits Limits `yaml:"limits,omitempty"`
}

// ValidName reports whether name can be a plugin's.
func ValidName(name string) bool { return validLabel(name, "-") }

// ValidCapability reports whether capability can be one of a plugin's.
func ValidCapability(capability string) bool { return validLabel(capability, "._-") }

// validLabel reports whether s has 1 to 63 of a-z, 0-9 and, neither first nor
// last, the bytes of inner.
func validLabel(s, inner string) bool {
	return len(s) <= maxLabelBytes && ident.Valid(s, inner) && s == strings.ToLower(s) &&
		strings.IndexByte(inner, s[len(s)-1]) < 0
}

// ParseManifest reads a complete manifest. It is strict: an unknown or
// repeated field, an alias, a second document, more than 64 KiB, another
// schema or any invalid value is an error that wraps ErrManifest.
func ParseManifest(data []byte) (Manifest, error) { return parse(data, true) }

// ParseTemplate reads a manifest that need not have a sha256 yet, as it is
// kept in a source tree; Install fills that in.
func ParseTemplate(data []byte) (Manifest, error) { return parse(data, false) }

func parse(data []byte, complete bool) (Manifest, error) {
	m, err := decodeManifest(data)
	if err == nil {
		err = m.validate(complete)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

func decodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if len(data) > maxManifestBytes {
		return m, fmt.Errorf("it has more than %d bytes; move data out of settings into a file of the plugin's own", maxManifestBytes)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return m, fmt.Errorf("not YAML: %w", err)
	}
	if err := plainTree(&root, 0); err != nil {
		return m, err
	}
	// The schema decides before the fields do: a later format may have more.
	var head struct {
		Schema *int `yaml:"schema"`
	}
	if err := root.Decode(&head); err != nil {
		return m, fmt.Errorf("want a mapping with schema: %d: %w", manifestSchema, err)
	}
	if head.Schema == nil || *head.Schema != manifestSchema {
		found := "none"
		if head.Schema != nil {
			found = fmt.Sprint(*head.Schema)
		}
		return m, fmt.Errorf("schema: want %d, found %s; use a manifest made for this version of the host", manifestSchema, found)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&m); err != nil {
		return m, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return m, errors.New("want one YAML document, found more")
	}
	return m, nil
}

// plainTree refuses what makes a small document large: aliases and depth.
func plainTree(n *yaml.Node, depth int) error {
	if depth > maxManifestDepth {
		return fmt.Errorf("line %d: nested deeper than %d", n.Line, maxManifestDepth)
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return fmt.Errorf("line %d: aliases and anchors are not allowed; write the value out", n.Line)
	}
	for _, c := range n.Content {
		if err := plainTree(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) validate(complete bool) error {
	if !ValidName(m.Name) {
		return fmt.Errorf("name: want 1 to 63 of a-z, 0-9 and inner hyphens, found %q", m.Name)
	}
	if _, err := semver.StrictNewVersion(m.Version); err != nil {
		return fmt.Errorf("version: want a complete SemVer version such as 1.2.3, found %q: %w", m.Version, err)
	}
	if m.SHA256 != "" || complete {
		if raw, err := hex.DecodeString(m.SHA256); err != nil || len(raw) != 32 || strings.ToLower(m.SHA256) != m.SHA256 {
			return fmt.Errorf("sha256: want 64 lower-case hex digits, found %q; sha256sum prints them", m.SHA256)
		}
	}
	if !slices.Contains(m.Protocol, pluginpb.ProtocolVersion) {
		return fmt.Errorf("protocol: want a list with %d, found %v; build the plugin against this host's sdk", pluginpb.ProtocolVersion, m.Protocol)
	}
	if len(m.Capabilities) == 0 {
		return errors.New("capabilities: want at least one, found none")
	}
	for _, c := range m.Capabilities {
		if !ValidCapability(c) {
			return fmt.Errorf("capabilities: want 1 to 63 of a-z, 0-9, dot, underscore and hyphen, found %q", c)
		}
	}
	if m.Host != "" {
		if _, err := semver.NewConstraint(m.Host); err != nil {
			return fmt.Errorf("host: want a SemVer constraint such as \">=1.2.0 <2.0.0\", found %q: %w", m.Host, err)
		}
	}
	if err := m.Limits.validate(); err != nil {
		return err
	}
	_, err := m.settingsJSON()
	return err
}

// settingsJSON is what the plugin's Start receives; nil without settings.
func (m *Manifest) settingsJSON() ([]byte, error) {
	if len(m.Settings) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(m.Settings)
	if err != nil {
		return nil, fmt.Errorf("settings: want what JSON can hold (text keys, finite numbers): %w", err)
	}
	return data, nil
}

// fits reports whether the plugin accepts a host of that version.
func (m *Manifest) fits(hostVersion string) error {
	if m.Host == "" {
		return nil
	}
	c, err := semver.NewConstraint(m.Host)
	if err != nil {
		return fmt.Errorf("%w: host: %w", ErrManifest, err)
	}
	c.IncludePrerelease = true
	if hostVersion == "" {
		return fmt.Errorf("%w: plugin %s %s wants a host %s, and this host has no version", ErrIncompatible, m.Name, m.Version, m.Host)
	}
	v, err := semver.StrictNewVersion(hostVersion)
	if err != nil {
		return fmt.Errorf("host version %q: want a complete SemVer version: %w", hostVersion, err)
	}
	if !c.Check(v) {
		return fmt.Errorf("%w: plugin %s %s wants a host %s, found %s; replace the plugin by one that accepts it, or remove it", ErrIncompatible, m.Name, m.Version, m.Host, hostVersion)
	}
	return nil
}
