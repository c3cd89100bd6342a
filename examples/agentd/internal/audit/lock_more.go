package audit

import (
	"encoding/json"
	"strings"
)

// gemfile judges a Gemfile by what Gemfile.lock lists as its dependencies.
func (s *source) gemfile() bool {
	wanted := map[string]string{}
	for line := range strings.Lines(string(s.raw)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "gem ")
		rest = strings.TrimLeft(rest, " (")
		if !ok || rest == "" || rest[0] != '"' && rest[0] != '\'' {
			continue
		}
		if name, _, closed := strings.Cut(rest[1:], rest[:1]); closed {
			wanted[name] = name
		}
	}
	if len(wanted) == 0 {
		return true
	}
	const advice = "bundle lock"
	l := s.besideLock("Gemfile.lock")
	if l == nil {
		return s.unlocked(advice, "Gemfile.lock")
	}
	have := map[string]bool{}
	_, list, _ := strings.Cut(string(l.raw), "\nDEPENDENCIES\n")
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, "  ") {
			break
		}
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		have[strings.TrimSuffix(name, "!")] = true
	}
	s.sameNames(l, advice, wanted, have)
	return true
}

// composer judges composer.json.
func (s *source) composer() bool {
	var m struct {
		Require map[string]string `json:"require"`
		Dev     map[string]string `json:"require-dev"`
	}
	if err := json.Unmarshal(s.raw, &m); err != nil {
		return s.unreadable("no composer.json", err)
	}
	wanted := map[string]string{}
	for _, table := range []map[string]string{m.Require, m.Dev} {
		for name := range table {
			if strings.Contains(name, "/") { // else of the platform: php, ext-json
				wanted[strings.ToLower(name)] = name
			}
		}
	}
	if len(wanted) == 0 {
		return true
	}
	const advice = "composer update --lock"
	l := s.besideLock("composer.lock")
	if l == nil {
		return s.unlocked(advice, "composer.lock")
	}
	type packages []struct {
		Name string `json:"name"`
	}
	var lock struct {
		Packages packages `json:"packages"`
		Dev      packages `json:"packages-dev"`
	}
	if err := json.Unmarshal(l.raw, &lock); err != nil {
		return s.unreadable("no composer.lock", err)
	}
	have := map[string]bool{}
	for _, p := range append(lock.Packages, lock.Dev...) {
		have[strings.ToLower(p.Name)] = true
	}
	s.sameNames(l, advice, wanted, have)
	return true
}

// chart judges the dependencies of a Helm chart.
func (s *source) chart() bool {
	d := s.mustYAML()
	if d == nil || len(d.parts) == 0 {
		return true
	}
	wanted := items(d.get(d.parts[0], "dependencies"))
	if len(wanted) == 0 {
		return d.end()
	}
	const advice = "helm dependency update"
	l := s.besideLock("Chart.lock")
	if l == nil {
		return s.unlocked(advice, "Chart.lock")
	}
	lock, err := newSource(s.run, l.name, l.raw).yaml()
	if err != nil || len(lock.parts) == 0 {
		s.report(fileUnread, position{}, "its lock file Chart.lock was not judged: no YAML")
		return true
	}
	have := map[string]string{}
	for _, item := range items(lock.get(lock.parts[0], "dependencies")) {
		have[text(lock.get(item, "name"))+" "+text(lock.get(item, "repository"))] = text(lock.get(item, "version"))
	}
	for _, item := range wanted {
		name, repository, version := text(d.get(item, "name")), text(d.get(item, "repository")), text(d.get(item, "version"))
		locked, ok := have[name+" "+repository]
		switch {
		case !ok:
			s.stale(l, name, advice, "%s of %s is missing in the dependencies", name, repository)
		case !satisfies(version, []string{locked}):
			s.stale(l, name, advice, "%s is wanted in %.60s and is %s in the dependencies", name, version, locked)
		}
	}
	return d.end()
}
