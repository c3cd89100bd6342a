package audit

import (
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// goModule judges go.mod: each module that it requires has its go.mod's hash
// in go.sum.
func (s *source) goModule() bool {
	f, err := modfile.Parse("go.mod", s.raw, nil)
	if err != nil {
		return s.unreadable("no go.mod", err)
	}
	replaced := map[module.Version]module.Version{}
	for _, r := range f.Replace {
		replaced[r.Old] = r.New
	}
	var wanted []module.Version
	at := map[module.Version]int{}
	for _, r := range f.Require {
		v := r.Mod
		if to, ok := replaced[v]; ok {
			v = to
		} else if to, ok := replaced[module.Version{Path: v.Path}]; ok {
			v = to
		}
		if v.Version == "" {
			continue // a directory
		}
		wanted = append(wanted, v)
		if r.Syntax != nil {
			at[v] = r.Syntax.Start.Byte
		}
	}
	if len(wanted) == 0 {
		return true
	}
	const advice = "go mod tidy"
	l := s.besideLock("go.sum")
	if l == nil {
		return s.unlocked(advice, "go.sum")
	}
	have := sums(l.raw)
	if work := s.lock("go.work.sum"); work != nil {
		for entry := range sums(work.raw) {
			have[entry] = true
		}
	}
	for _, v := range wanted {
		if !have[v.Path+" "+v.Version+"/go.mod"] {
			s.report(lockStale, s.at(at[v]), "%s %s is missing in go.sum: run %s and commit what it writes", v.Path, v.Version, advice)
		}
	}
	return true
}

// sums returns the modules and versions of a go.sum.
func sums(raw []byte) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		if entry, sum, ok := cutLast(strings.TrimSpace(line)); ok && strings.HasPrefix(sum, "h1:") {
			all[entry] = true
		}
	}
	return all
}

// cutLast cuts s at its last blank.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
