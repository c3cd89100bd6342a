package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/semver/v3"
)

// lockKind tells by the name which package manager a manifest is of, nil if
// none.
func lockKind(base string) func(*source) bool {
	switch base {
	case "package.json":
		return (*source).npm
	case "go.mod":
		return (*source).goModule
	case "Cargo.toml":
		return (*source).cargo
	case "pyproject.toml":
		return (*source).pyproject
	case "Pipfile":
		return (*source).pipfile
	case "Gemfile":
		return (*source).gemfile
	case "composer.json":
		return (*source).composer
	case "Chart.yaml":
		return (*source).chart
	}
	if strings.HasPrefix(base, "requirements") && strings.HasSuffix(base, ".txt") {
		return (*source).requirements
	}
	return nil
}

// lockFile is what belongs to a manifest: in its own directory, or in one
// above for a member of a workspace.
type lockFile struct {
	name string // in the tree
	dir  string // its directory
	raw  []byte
}

// lock looks for the first of names that there is, beside the manifest and
// then upwards to the top of the tree. It is nil if there is none. What is too
// large to be read is reported, and has no content.
func (s *source) lock(names ...string) *lockFile {
	for dir := path.Dir(s.name); ; dir = path.Dir(dir) {
		for _, base := range names {
			name := path.Join(dir, base)
			if !s.tree.has(name) {
				continue
			}
			raw, err := s.tree.read(name, maxLock)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(base, ".lockb") {
				s.report(fileUnread, position{}, "its lock file %s was not judged: %v", base, err)
			}
			return &lockFile{name, dir, raw}
		}
		if dir == "." {
			return nil
		}
	}
}

// besideLock is lock for managers without workspaces: in the same directory or
// not at all.
func (s *source) besideLock(name string) *lockFile {
	if !s.tree.has(path.Join(path.Dir(s.name), name)) {
		return nil
	}
	return s.lock(name)
}

// unlocked reports that there is no lock.
func (s *source) unlocked(advice string, names ...string) bool {
	s.report(lockMissing, position{line: 1, column: 1, offset: -1}, "there is no %s beside it: each build takes what is newest; run %s and commit what it writes", strings.Join(names, " or "), advice)
	return true
}

// unreadable reports that the manifest, or its lock, is not of its format.
func (s *source) unreadable(what string, err error) bool {
	first, _, _ := strings.Cut(err.Error(), "\n")
	s.report(fileUnread, position{}, "was not judged: %s: %s", what, first)
	return true
}

// stale reports a difference between the manifest and its lock.
func (s *source) stale(l *lockFile, name, advice, format string, args ...any) {
	s.report(lockStale, s.find(name), "%s of %s: run %s and commit what it writes", fmt.Sprintf(format, args...), path.Base(l.name), advice)
}

// quoted is a name as JSON has it, for where it stands in the file.
func quoted(name string) string { return `"` + name + `"` }

// decodeTOML reads TOML of which brackets are bounded, as the parser calls
// itself for each.
func decodeTOML(raw []byte, into any) error {
	if brackets(string(raw)) > maxBrackets {
		return fmt.Errorf("it has more than %d brackets open at a time", maxBrackets)
	}
	_, err := toml.Decode(string(raw), into)
	return err
}

// maxBrackets is how many brackets TOML may have open at a time.
const maxBrackets = 500

// brackets returns how many opening brackets are without a closing one at
// most, whatever they mean: those in quotes and comments count too.
func brackets(text string) int {
	open, most := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '{', '[':
			open++
			most = max(most, open)
		case '}', ']':
			open = max(0, open-1)
		}
	}
	return most
}

// satisfies reports whether one of the versions is in the range; what cannot
// be told counts as if it were.
func satisfies(constraint string, versions []string) bool {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return true
	}
	for _, version := range versions {
		v, err := semver.NewVersion(version)
		if err != nil || v.Prerelease() != "" || c.Check(v) {
			return true
		}
	}
	return false
}

// sorted returns the keys in order, so that reports are always the same.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
