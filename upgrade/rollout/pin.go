package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/strictjson"
	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	// EnvironmentLabel is the label that names an agent's environment.
	EnvironmentLabel = "env"
	// DefaultEnvironment is that of agents without the label.
	DefaultEnvironment = "default"
)

// Bounds of a pin.
const (
	maxPin        = 64 << 10 // bytes of the value
	maxPinEntries = 256      // of each map
	maxPinBy      = 256      // bytes
	maxPinReason  = 512
	pinDepth      = 4
)

// ErrPin is wrapped where a value under pin/ cannot be used.
var ErrPin = errors.New("not a pin of an environment")

// Pin is the value of pin/<environment>: what the agents of an environment are
// meant to run. It is for comparing: no agent follows it.
type Pin struct {
	Schema      int    `json:"schema"`
	Environment string `json:"environment"`
	// Program is the name that Release is signed for, as far as it is known.
	Program string `json:"program,omitempty"`
	// Release is what is meant to run; zero = any.
	Release release.Pin `json:"release,omitzero"`
	// Binaries are the SHA-256 of the executables of Release in hex, by platform
	// such as linux/amd64, as its manifest has them. Where one is missing, the
	// bytes that run are compared with what the agent installed only.
	Binaries map[string]string `json:"binaries,omitempty"`
	// Plugins are "sha256:<hex>" of plugins' executables, by name; of others
	// nothing is expected.
	Plugins map[string]string `json:"plugins,omitempty"`
	// Config are "sha256:<hex>" of the documents of configuration, by scope. Of a
	// scope that is not here it is expected only that agents run what is published.
	Config map[string]string `json:"config,omitempty"`
	// By is who set it, Reason why; both are for people.
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	// Rollout is the one that set it as it completed; empty = a person did.
	Rollout string `json:"rollout,omitempty"`
	// Before is the pin that this one took the place of, where a rollout set it: if
	// it is reverted to what ran before, that is meant again. nil = there was none, or
	// it is not known. It has no Before itself.
	Before *Pin `json:"before,omitempty"`
}

// Validate reports what keeps p from being written.
func (p Pin) Validate() error {
	if err := etcdkv.ValidID(p.Environment); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	if p.Release.IsZero() && len(p.Plugins)+len(p.Config) == 0 {
		return fmt.Errorf("pin of %s: it names neither a release, nor a plugin, nor a document of configuration", p.Environment)
	}
	if !p.Release.IsZero() {
		if err := p.Release.Validate(); err != nil {
			return fmt.Errorf("pin of %s: %w", p.Environment, err)
		}
	}
	for _, text := range []struct {
		what, text string
		most       int
	}{{"by", p.By, maxPinBy}, {"reason", p.Reason, maxPinReason}, {"program", p.Program, maxPinBy}, {"rollout", p.Rollout, maxPinBy}} {
		if len(text.text) > text.most || !utf8.ValidString(text.text) || strings.ContainsFunc(text.text, unicode.IsControl) {
			return fmt.Errorf("pin of %s: %s: want at most %d bytes of UTF-8 without control characters, found %.60q", p.Environment, text.what, text.most, text.text)
		}
	}
	err := errors.Join(
		digests("binaries", "", p.Binaries, validPlatform),
		digests("plugins", digestPrefix, p.Plugins, func(name string) bool { return etcdkv.ValidID(name) == nil }),
		digests("config", digestPrefix, p.Config, validScope))
	if err != nil {
		return fmt.Errorf("pin of %s: %w", p.Environment, err)
	}
	if p.Before == nil {
		return nil
	}
	if p.Before.Before != nil || p.Before.Environment != p.Environment {
		return fmt.Errorf("pin of %s: before: want a pin of the same environment without a before", p.Environment)
	}
	return p.Before.Validate()
}

// validPlatform is of names such as linux/amd64.
func validPlatform(platform string) bool {
	system, arch, ok := strings.Cut(platform, "/")
	return ok && ident.Valid(system, "_") && ident.Valid(arch, "_")
}

const digestPrefix = "sha256:"

// digests refuses what of a map is no digest, or under no key.
func digests(what, prefix string, all map[string]string, key func(string) bool) error {
	if len(all) > maxPinEntries {
		return fmt.Errorf("%s: want at most %d, found %d", what, maxPinEntries, len(all))
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		hex, ok := strings.CutPrefix(all[k], prefix)
		switch {
		case !key(k):
			return fmt.Errorf("%s: %.100q names none", what, k)
		case !ok || !ident.SHA256(hex):
			return fmt.Errorf("%s: digest of %s: want %s and 64 lower-case hexadecimal digits, found %.100q", what, k, prefix, all[k])
		}
	}
	return nil
}

// validScope is of what a document of configuration can be for; see docs/formats.md.
func validScope(scope string) bool {
	kind, name, named := strings.Cut(scope, "/")
	if !named {
		return scope == "global"
	}
	return (kind == "group" || kind == "agent") && etcdkv.ValidID(name) == nil
}

// encode validates p and returns the value for etcd.
func (p Pin) encode() (string, error) {
	p.Schema = Schema
	if err := p.Validate(); err != nil {
		return "", err
	}
	data, err := json.Marshal(p)
	if err == nil && len(data) > maxPin {
		err = fmt.Errorf("pin of %s: it has %d bytes, at most %d are read", p.Environment, len(data), maxPin)
	}
	return string(data), err
}

// ParsePin reads the value of pin/<environment>. Errors wrap ErrPin.
func ParsePin(environment string, data []byte) (Pin, error) {
	p, err := parsePin(environment, data)
	if err != nil {
		return Pin{}, fmt.Errorf("%w: pin/%.130s: %w", ErrPin, environment, err)
	}
	return p, nil
}

func parsePin(environment string, data []byte) (Pin, error) {
	if len(data) > maxPin {
		return Pin{}, fmt.Errorf("it has %d bytes, at most %d are read", len(data), maxPin)
	}
	if err := strictjson.Check(data, pinDepth); err != nil {
		return Pin{}, err
	}
	var p Pin
	if err := json.Unmarshal(data, &p); err != nil {
		return Pin{}, err
	}
	switch {
	case p.Schema != Schema:
		return Pin{}, fmt.Errorf("it has schema %d, this version reads %d", p.Schema, Schema)
	case p.Environment != environment:
		return Pin{}, fmt.Errorf("it says that it is of %.130q", p.Environment)
	}
	return p, p.Validate()
}

// clone is p with maps of its own.
func (p Pin) clone() Pin {
	p.Binaries, p.Plugins, p.Config = maps.Clone(p.Binaries), maps.Clone(p.Plugins), maps.Clone(p.Config)
	return p
}

// Pin is what a rollout that completes makes of the pin of environment, which
// before is the one that there was, or zero.
func (p *Plan) Pin(environment string, before Pin, at time.Time) Pin {
	next := before.clone()
	next.Before = nil
	next.Schema, next.Environment = Schema, environment
	next.By, next.Reason, next.Rollout, next.At = clip(p.By, maxPinBy), clip(p.Reason, maxPinReason), p.ID, at.UTC()
	if c := p.Target.Config; c != nil {
		if next.Config == nil {
			next.Config = map[string]string{}
		}
		next.Config[c.Scope] = c.Digest
		if c.Digest == "" { // the scope has none of its own
			delete(next.Config, c.Scope)
		}
		return next
	}
	if next.Release != p.Target.Release || len(p.Binaries) > 0 {
		next.Binaries = maps.Clone(p.Binaries)
	}
	next.Release, next.Program = p.Target.Release, p.Target.Program
	return next
}

// clip is text as a pin may hold it.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	for i, r := range text {
		if i+utf8.RuneLen(r) > most {
			return text[:i]
		}
	}
	return text
}
