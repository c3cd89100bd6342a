package audit

import (
	"encoding/json"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// npmDependencies are what a package.json, or an entry of a lock, asks for.
type npmDependencies struct {
	Dependencies map[string]string `json:"dependencies"`
	Dev          map[string]string `json:"devDependencies"`
	Optional     map[string]string `json:"optionalDependencies"`
}

// groups returns them by their key. What is optional overrides the rest.
func (d npmDependencies) groups() map[string]map[string]string {
	plain := map[string]string{}
	for name, wanted := range d.Dependencies {
		if _, optional := d.Optional[name]; !optional {
			plain[name] = wanted
		}
	}
	return map[string]map[string]string{"dependencies": plain, "devDependencies": d.Dev, "optionalDependencies": d.Optional}
}

// npm judges package.json by the lock of npm, yarn, pnpm or bun.
func (s *source) npm() bool {
	var m npmDependencies
	if err := json.Unmarshal(s.raw, &m); err != nil {
		return s.unreadable("no package.json", err)
	}
	if len(m.Dependencies)+len(m.Dev)+len(m.Optional) == 0 {
		return true
	}
	locks := []string{"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"}
	l := s.lock(locks...)
	switch {
	case l == nil:
		return s.unlocked("npm install", locks[:4]...)
	case path.Base(l.name) == "bun.lockb":
		s.reportAs(Note, fileUnread, position{}, "its lock file bun.lockb is binary and was not compared: run bun install --save-text-lockfile and commit the bun.lock that it writes")
		return true
	case l.raw == nil:
		return true
	}
	member, err := filepath.Rel(filepath.FromSlash(l.dir), filepath.FromSlash(path.Dir(s.name)))
	if err != nil {
		return s.unreadable("no place", err)
	}
	member = filepath.ToSlash(member)
	switch path.Base(l.name) {
	case "package-lock.json", "npm-shrinkwrap.json":
		return s.packageLock(m, l, member)
	case "yarn.lock":
		s.yarnLock(m, l)
	case "pnpm-lock.yaml":
		return s.pnpmLock(m, l, member)
	case "bun.lock":
		return s.bunLock(m, l, member)
	}
	return true
}

// npmPackage is an entry of a lock of npm.
type npmPackage struct {
	npmDependencies
	Version string `json:"version"`
}

// npmOld is an entry of one of the first format, whose dependencies are
// something else.
type npmOld struct {
	Version string `json:"version"`
}

const npmAdvice = "npm install --package-lock-only"

// packageLock compares what npm ci compares.
func (s *source) packageLock(m npmDependencies, l *lockFile, member string) bool {
	var lock struct {
		Version  int                   `json:"lockfileVersion"`
		Packages map[string]npmPackage `json:"packages"`
		Old      map[string]npmOld     `json:"dependencies"`
	}
	if err := json.Unmarshal(l.raw, &lock); err != nil {
		return s.unreadable("no "+path.Base(l.name), err)
	}
	if lock.Version < 2 {
		for _, wanted := range m.groups() {
			for _, name := range sorted(wanted) {
				if locked, ok := lock.Old[name]; !ok {
					s.stale(l, quoted(name), npmAdvice, "%s is missing in the dependencies", name)
				} else {
					s.inRange(l, npmAdvice, name, wanted[name], locked.Version)
				}
			}
		}
		return true
	}
	entry := member
	if entry == "." {
		entry = ""
	}
	locked, ok := lock.Packages[entry]
	if !ok {
		return s.unlocked(npmAdvice, "package-lock.json")
	}
	have := locked.groups()
	wanted := m.groups()
	for _, group := range sorted(wanted) {
		s.sameRanges(l, npmAdvice, wanted[group], have[group], group)
		for _, name := range sorted(wanted[group]) {
			if have[group][name] != wanted[group][name] {
				continue // was told above
			}
			locked, ok := lock.Packages[path.Join(entry, "node_modules", name)]
			if !ok {
				locked, ok = lock.Packages["node_modules/"+name]
			}
			if ok {
				s.inRange(l, npmAdvice, name, wanted[group][name], locked.Version)
			} else if group != "optionalDependencies" {
				s.stale(l, quoted(name), npmAdvice, "%s is missing in the packages", name)
			}
		}
	}
	return true
}

// inRange reports a package that is locked at a version which is not asked for.
func (s *source) inRange(l *lockFile, advice, name, wanted, locked string) {
	if !satisfies(wanted, []string{locked}) {
		s.stale(l, quoted(name), advice, "%s is wanted in %.60s and is %.60s in the packages", name, wanted, locked)
	}
}

// sameRanges reports where manifest and lock ask for different things.
func (s *source) sameRanges(l *lockFile, advice string, wanted, have map[string]string, group string) {
	for _, name := range sorted(wanted) {
		if locked, ok := have[name]; !ok {
			s.stale(l, quoted(name), advice, "%s is missing in the %s", name, group)
		} else if locked != wanted[name] {
			s.stale(l, quoted(name), advice, "%s is %.60s here and %.60s in the %s", name, wanted[name], locked, group)
		}
	}
	for _, name := range sorted(have) {
		if _, ok := wanted[name]; !ok {
			s.stale(l, quoted(group), advice, "%s is not asked for here and is in the %s", name, group)
		}
	}
}

// yarnLock looks for each name and range among the entries.
func (s *source) yarnLock(m npmDependencies, l *lockFile) {
	entries := map[string]bool{}
	for line := range strings.Lines(string(l.raw)) {
		line = strings.TrimRight(line, "\r\n")
		key, ok := strings.CutSuffix(line, ":")
		if !ok || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "#") {
			continue
		}
		for entry := range strings.SplitSeq(strings.ReplaceAll(key, `"`, ""), ", ") {
			entries[entry] = true
		}
	}
	wanted := m.groups()
	for _, group := range sorted(wanted) {
		for _, name := range sorted(wanted[group]) {
			of := wanted[group][name]
			if strings.Contains(of, ":") { // of a workspace, a file, git: with forms of their own
				continue
			}
			if !entries[name+"@"+of] && !entries[name+"@npm:"+of] {
				s.stale(l, quoted(name), "yarn install", "%s@%.60s is no entry", name, of)
			}
		}
	}
}

// pnpmLock compares the ranges that the lock was made for.
func (s *source) pnpmLock(m npmDependencies, l *lockFile, member string) bool {
	other := newSource(s.run, l.name, l.raw)
	d, err := other.yaml()
	if err != nil || len(d.parts) == 0 {
		s.report(fileUnread, position{}, "its lock file pnpm-lock.yaml was not judged: no YAML")
		return true
	}
	lock := d.parts[len(d.parts)-1]
	importer := lock
	if importers := d.get(lock, "importers"); importers != nil {
		importer = d.get(importers, member)
	} else if member != "." {
		importer = nil
	}
	if importer == nil {
		return s.unlocked("pnpm install --lockfile-only", "pnpm-lock.yaml that has this package")
	}
	wanted := m.groups()
	for _, group := range sorted(wanted) {
		for _, name := range sorted(wanted[group]) {
			if d.get(lock, "overrides", name) != nil {
				continue
			}
			locked := d.get(importer, group, name, "specifier")
			if locked == nil {
				locked = d.get(importer, "specifiers", name)
			}
			if locked == nil {
				s.stale(l, quoted(name), "pnpm install --lockfile-only", "%s is missing in the %s", name, group)
			} else if text(locked) != wanted[group][name] {
				s.stale(l, quoted(name), "pnpm install --lockfile-only", "%s is %.60s here and %.60q in the %s", name, wanted[group][name], text(locked), group)
			}
		}
	}
	return true
}

// bunLock compares the ranges that the lock was made for, and the versions. Its
// JSON has commas before closing brackets, as YAML may have.
func (s *source) bunLock(m npmDependencies, l *lockFile, member string) bool {
	const advice = "bun install --lockfile-only"
	d, err := newSource(s.run, l.name, l.raw).yaml()
	if err != nil || len(d.parts) == 0 {
		s.report(fileUnread, position{}, "its lock file bun.lock was not judged: neither JSON nor YAML")
		return true
	}
	if member == "." {
		member = ""
	}
	workspace := d.get(d.parts[0], "workspaces", member)
	if workspace == nil {
		return s.unlocked(advice, "bun.lock that has this package")
	}
	locked := map[string]string{} // name@version by name
	d.fields(d.get(d.parts[0], "packages"), func(name string, entry *yaml.Node) {
		if of := items(entry); len(of) > 0 {
			locked[name] = text(of[0])
		}
	})
	wanted := m.groups()
	for _, group := range sorted(wanted) {
		have := map[string]string{}
		d.fields(d.get(workspace, group), func(name string, of *yaml.Node) { have[name] = text(of) })
		s.sameRanges(l, advice, wanted[group], have, group)
		for _, name := range sorted(wanted[group]) {
			own := text(d.get(workspace, "name")) + "/" + name // where it differs from that of the others
			is, ok := locked[own]
			if !ok {
				is, ok = locked[name]
			}
			if of := wanted[group][name]; have[name] != of {
				continue // was told above
			} else if ok {
				s.inRange(l, advice, name, of, afterLast(is, "@"))
			} else if group != "optionalDependencies" {
				s.stale(l, quoted(name), advice, "%s is missing in the packages", name)
			}
		}
	}
	return true
}
