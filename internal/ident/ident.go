// Package ident says what may be a name: of an agent, a release, a check.
//
// A regular expression with a bounded repeat would say the same, and cost
// every program that links it a tenth of a millisecond at its start.
package ident

import (
	"io/fs"
	"strings"
)

// MaxLength bounds a name, in bytes.
const MaxLength = 128

// Valid reports whether s has 1 to MaxLength bytes, begins with an ASCII
// letter or digit, and holds nothing but these and the bytes of extra.
func Valid(s, extra string) bool {
	if s == "" || len(s) > MaxLength || !alphanumeric(s[0]) {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return false
		}
	}
	return true
}

// SHA256 reports whether s is a SHA-256 as it is written here: 64 lower-case
// hexadecimal digits. Digests become file names, so nothing else may pass.
func SHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Path reports whether s is a slash-separated path below a root that means the
// same in a file system, in a URL and on Windows, and does not leave the root.
func Path(s string) bool {
	return fs.ValidPath(s) && s != "." && !strings.ContainsAny(s, "\\\x00:?#%")
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
