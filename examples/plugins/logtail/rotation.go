package main

import (
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// A number, a date or "old" behind the name, as in app.log.1,
	// app.log-20260131, app.log.2026-01-31_10-00 and app.log.old.
	behind = regexp.MustCompile(`^[._-](old|[0-9][0-9A-Za-z.:_+-]*)$`)
	// A date before the extension, as in app-2026-01-31T10-00-00.000.log. A
	// mere number there is as likely another program's log.
	between = regexp.MustCompile(`^[._-][0-9]{4}-?[0-9]{2}-?[0-9]{2}[0-9A-Z.:_+-]*$`)

	packed = regexp.MustCompile(`\.(gz|bz2|xz|zst|lz4|lzma|br|Z|zip|7z)$`)
)

// compressed reports whether a file of this name is no text.
func compressed(name string) bool { return packed.MatchString(name) }

// rotated reports whether a file of this name is what the log of that name
// was renamed or copied to.
func rotated(log, name string) bool {
	if compressed(name) {
		return false
	}
	if rest, ok := strings.CutPrefix(name, log); ok && behind.MatchString(rest) {
		return true
	}
	ext := filepath.Ext(log)
	stem := strings.TrimSuffix(log, ext)
	rest, ok := strings.CutPrefix(name, stem)
	if !ok || stem == "" || ext == "" {
		return false
	}
	date, ok := strings.CutSuffix(rest, ext)
	return ok && between.MatchString(date)
}
