package audit

import (
	"encoding/json"
	"maps"
	"path"
	"strings"
)

// pyproject is what of pyproject.toml says which packages are wanted, and who
// locks them.
type pyproject struct {
	Project struct {
		Dependencies []string            `toml:"dependencies"`
		Optional     map[string][]string `toml:"optional-dependencies"`
	} `toml:"project"`
	Groups map[string][]any `toml:"dependency-groups"` // a table includes another group
	Tool   struct {
		Poetry *struct {
			Dependencies map[string]any `toml:"dependencies"`
			Group        map[string]struct {
				Dependencies map[string]any `toml:"dependencies"`
			} `toml:"group"`
		} `toml:"poetry"`
		PDM any `toml:"pdm"`
		UV  *struct {
			Dev []string `toml:"dev-dependencies"`
		} `toml:"uv"`
	} `toml:"tool"`
}

// wanted returns the packages, as they are written by their normalised names.
// What is for some systems only need not be in a lock.
func (m *pyproject) wanted() map[string]string {
	all := map[string]string{}
	addRequirements(all, m.Project.Dependencies)
	if m.Tool.Poetry == nil {
		return all
	}
	tables := []map[string]any{m.Tool.Poetry.Dependencies}
	for _, g := range m.Tool.Poetry.Group {
		tables = append(tables, g.Dependencies)
	}
	for _, table := range tables {
		for name := range table {
			if name != "python" {
				all[normalised(name)] = name
			}
		}
	}
	return all
}

// addRequirements adds the names of requirements that are not for some systems
// only.
func addRequirements(all map[string]string, requirements []string) {
	for _, r := range requirements {
		if name := requirementName(r); name != "" && !strings.Contains(r, ";") {
			all[normalised(name)] = name
		}
	}
}

// chosen returns the packages of extras and groups, which uv locks and others
// leave to whoever locks.
func (m *pyproject) chosen() map[string]string {
	all := map[string]string{}
	for _, extra := range m.Project.Optional {
		addRequirements(all, extra)
	}
	for _, group := range m.Groups {
		for _, r := range group {
			if requirement, ok := r.(string); ok {
				addRequirements(all, []string{requirement})
			}
		}
	}
	if m.Tool.UV != nil {
		addRequirements(all, m.Tool.UV.Dev)
	}
	return all
}

// locks returns the names that the lock may have, what is advised first.
func (m *pyproject) locks() []string {
	switch {
	case m.Tool.Poetry != nil:
		return []string{"poetry.lock"}
	case m.Tool.PDM != nil:
		return []string{"pdm.lock"}
	case m.Tool.UV != nil:
		return []string{"uv.lock"}
	}
	return []string{"uv.lock", "pdm.lock", "poetry.lock", "pylock.toml", "requirements.txt"}
}

// lockCommand returns what makes a lock of that name anew.
func lockCommand(base string) string {
	switch base {
	case "pdm.lock":
		return "pdm lock"
	case "poetry.lock":
		return "poetry lock"
	case "pylock.toml":
		return "pip lock"
	case "requirements.txt":
		return "pip-compile --generate-hashes pyproject.toml"
	}
	return "uv lock"
}

// pyproject judges pyproject.toml: there is a lock, and what is asked for is
// in it.
func (s *source) pyproject() bool {
	var m pyproject
	if err := decodeTOML(s.raw, &m); err != nil {
		return s.unreadable("no pyproject.toml", err)
	}
	wanted, chosen := m.wanted(), m.chosen()
	if len(wanted)+len(chosen) == 0 {
		return true
	}
	names := m.locks()
	l := s.lock(names...)
	switch {
	case l == nil && len(wanted) == 0:
		return true
	case l == nil:
		return s.unlocked(lockCommand(names[0]), names...)
	case path.Base(l.name) == "uv.lock":
		maps.Copy(wanted, chosen)
	}
	advice := lockCommand(path.Base(l.name))
	if path.Base(l.name) == "requirements.txt" {
		s.sameNames(l, advice, wanted, requirementNames(string(l.raw)))
		return true
	}
	locked, ok := s.locked(l)
	if !ok {
		return true
	}
	have := map[string]bool{}
	for name := range locked {
		have[normalised(name)] = true
	}
	s.sameNames(l, advice, wanted, have)
	return true
}

func (s *source) sameNames(l *lockFile, advice string, wanted map[string]string, have map[string]bool) {
	for _, name := range sorted(wanted) {
		if !have[name] {
			s.stale(l, wanted[name], advice, "%s is missing in the packages", wanted[name])
		}
	}
}

// normalised is a name as Python's packages compare: 1.0 of A_b is of a-b.
func normalised(name string) string {
	fields := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return strings.Join(fields, "-")
}

// requirementName returns the name that a requirement begins with.
func requirementName(requirement string) string {
	end := strings.IndexFunc(requirement, func(r rune) bool { return !wordRune(r) })
	if end < 0 {
		return requirement
	}
	return requirement[:end]
}

// requirementLines returns the requirements of a file for pip, without
// comments and options, and the line of each.
func requirementLines(raw string) (requirements []string, lines []int) {
	open := false
	n := 0
	for line := range strings.Lines(raw) {
		n++
		line, _, _ = strings.Cut(strings.TrimRight(line, "\r\n"), " #")
		line = strings.TrimSpace(line)
		body, continued := strings.CutSuffix(line, `\`)
		switch {
		case open:
			requirements[len(requirements)-1] += " " + strings.TrimSpace(body)
		case line == "" || line[0] == '#' || line[0] == '-':
			continue
		default:
			requirements, lines = append(requirements, strings.TrimSpace(body)), append(lines, n)
		}
		open = continued
	}
	return requirements, lines
}

func requirementNames(raw string) map[string]bool {
	all := map[string]bool{}
	requirements, _ := requirementLines(raw)
	for _, r := range requirements {
		if place := requirementPlace(r); place == "" || !strings.HasPrefix(r, place) { // else it has no name
			all[normalised(requirementName(r))] = true
		}
	}
	return all
}

// requirements judges requirements.txt: each line names one version, and what
// is asked for in requirements.in is there.
func (s *source) requirements() bool {
	requirements, lines := requirementLines(string(s.raw))
	for i, r := range requirements {
		if fault := requirementFault(r); fault != "" {
			s.report(requirementLoose, position{line: lines[i], column: 1, offset: -1}, "%.100q %s", r, fault)
		}
	}
	in := strings.TrimSuffix(s.name, ".txt") + ".in"
	raw, err := s.tree.read(in, maxDocument)
	if err != nil {
		return true
	}
	have := requirementNames(string(s.raw))
	for _, name := range sorted(requirementNames(string(raw))) {
		if !have[name] {
			s.report(lockStale, position{line: 1, column: 1, offset: -1}, "%s is asked for in %s and missing here: run pip-compile and commit what it writes", name, path.Base(in))
		}
	}
	return true
}

// requirementFault says what a requirement lacks to be met by one thing only,
// nothing if it lacks nothing.
func requirementFault(r string) string {
	wanted, hashed := r, false
	if before, _, ok := strings.Cut(r, " --hash="); ok {
		wanted, hashed = before, true
	}
	where := requirementPlace(wanted)
	_, fragment, _ := strings.Cut(where, "#")
	switch {
	case strings.HasPrefix(where, "git+"), strings.HasPrefix(where, "hg+"):
		ref := afterLast(strings.TrimSuffix(where, "#"+fragment), "@")
		if len(ref) < 40 || !hexadecimal(ref[:40]) {
			return "names no commit: write @ and the 40 digits of one behind the repository"
		}
		return ""
	case strings.Contains(where, "://") && !strings.HasPrefix(where, "file:"):
		if !hashed && !strings.HasPrefix(fragment, "sha256=") && !strings.HasPrefix(fragment, "sha512=") {
			return "is what the server has on the day: append #sha256= and the digest of the file"
		}
		return ""
	case where != "":
		return "" // of this tree
	}
	wanted, _, _ = strings.Cut(wanted, ";")
	_, version, ok := strings.Cut(wanted, "==")
	version = strings.TrimSpace(strings.TrimPrefix(version, "="))
	if !ok || version == "" || strings.ContainsAny(version, "*,<>~! ") {
		return "names no exact version: write name==version, with hashes (pip-compile --generate-hashes)"
	}
	return ""
}

// requirementPlace returns the URL or the path that a requirement names, alone or
// behind a name and @; nothing if it names a version or none.
func requirementPlace(r string) string {
	r, _, _ = strings.Cut(r, " ;")
	if name, place, ok := strings.Cut(r, "@"); ok && !strings.ContainsAny(name, ":/") {
		r = place
	}
	r = strings.TrimSpace(r)
	if strings.Contains(r, "://") || strings.HasPrefix(r, "file:") || strings.HasPrefix(r, ".") || strings.HasPrefix(r, "/") {
		return r
	}
	return ""
}

// afterLast returns what follows the last separator, nothing without one.
func afterLast(s, separator string) string {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return ""
	}
	return s[i+len(separator):]
}

// pipfile judges Pipfile.
func (s *source) pipfile() bool {
	var m struct {
		Packages map[string]any `toml:"packages"`
		Dev      map[string]any `toml:"dev-packages"`
	}
	if err := decodeTOML(s.raw, &m); err != nil {
		return s.unreadable("no Pipfile", err)
	}
	wanted := map[string]string{}
	for _, table := range []map[string]any{m.Packages, m.Dev} {
		for name := range table {
			wanted[normalised(name)] = name
		}
	}
	if len(wanted) == 0 {
		return true
	}
	const advice = "pipenv lock"
	l := s.besideLock("Pipfile.lock")
	if l == nil {
		return s.unlocked(advice, "Pipfile.lock")
	}
	var lock struct {
		Default map[string]any `json:"default"`
		Develop map[string]any `json:"develop"`
	}
	if err := json.Unmarshal(l.raw, &lock); err != nil {
		return s.unreadable("no Pipfile.lock", err)
	}
	have := map[string]bool{}
	for _, table := range []map[string]any{lock.Default, lock.Develop} {
		for name := range table {
			have[normalised(name)] = true
		}
	}
	s.sameNames(l, advice, wanted, have)
	return true
}
