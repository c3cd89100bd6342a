package release

import (
	"fmt"
	"strings"
	"unicode"
)

// Bounds of what publishers write for people. Readers take more, and cut it
// where they show it.
const (
	maxRevision    = 256
	maxAnnotations = 64
	maxText        = 1 << 10
)

// validateText finds what would be too much for a journal, a terminal or a
// table.
func (rel Release) validateText() error {
	if len(rel.Revision) > maxRevision || !printable(rel.Revision) {
		return fmt.Errorf("revision %.80q: want at most %d bytes of printable text", rel.Revision, maxRevision)
	}
	if len(rel.Annotations) > maxAnnotations {
		return fmt.Errorf("%d annotations: want at most %d", len(rel.Annotations), maxAnnotations)
	}
	for key, value := range rel.Annotations {
		if len(key) > maxText || len(value) > maxText {
			return fmt.Errorf("annotation %.80q has a name of %d bytes and a value of %d, want at most %d each", key, len(key), len(value), maxText)
		}
	}
	for _, constraint := range []string{rel.Requires.Upgrade, rel.Requires.PluginAPI, rel.Requires.ConfigSchema} {
		if len(constraint) > maxText {
			return fmt.Errorf("requires %.80q… has %d bytes, want at most %d", constraint, len(constraint), maxText)
		}
	}
	return nil
}

func checkReason(reason string) error {
	if len(reason) > maxText || !printable(reason) {
		return fmt.Errorf("reason %.80q: want one line of printable text, at most %d bytes", reason, maxText)
	}
	return nil
}

// shown makes text of others fit for an error: printable, on one line and
// bounded.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text[:min(len(text), maxText)])
	return strings.ToValidUTF8(text, "")
}
