package audit

import "strings"

// cargoTables are the tables of dependencies of a Cargo.toml.
type cargoTables struct {
	Dependencies map[string]any `toml:"dependencies"`
	Dev          map[string]any `toml:"dev-dependencies"`
	Build        map[string]any `toml:"build-dependencies"`
}

// cargo judges Cargo.toml: each dependency is in Cargo.lock, in a version that
// it allows.
func (s *source) cargo() bool {
	var m struct {
		cargoTables
		Workspace map[string]any         `toml:"workspace"`
		Target    map[string]cargoTables `toml:"target"`
	}
	if err := decodeTOML(s.raw, &m); err != nil {
		return s.unreadable("no Cargo.toml", err)
	}
	wanted := map[string]string{}
	m.add(wanted)
	for _, t := range m.Target {
		t.add(wanted)
	}
	if len(wanted) == 0 {
		return true
	}
	const advice = "cargo generate-lockfile (or cargo update --workspace)"
	l := s.lock("Cargo.lock")
	if l == nil {
		return s.unlocked(advice, "Cargo.lock")
	}
	locked, ok := s.locked(l)
	if !ok {
		return true
	}
	for _, name := range sorted(wanted) {
		constraint := wanted[name]
		if constraint != "" && constraint[0] >= '0' && constraint[0] <= '9' {
			constraint = "^" + constraint
		}
		switch versions := locked[name]; {
		case len(versions) == 0:
			s.stale(l, name, advice, "%s is missing in the packages", name)
		case constraint != "" && !strings.Contains(constraint, ",") && !satisfies(constraint, versions):
			s.stale(l, name, advice, "%s is wanted in %.60s and is %s in the packages", name, wanted[name], strings.Join(versions, ", "))
		}
	}
	return true
}

// add takes the dependencies by the names of their packages, with the versions
// that they allow if that is told here.
func (t *cargoTables) add(wanted map[string]string) {
	for _, table := range []map[string]any{t.Dependencies, t.Dev, t.Build} {
		for name, v := range table {
			constraint, _ := v.(string)
			if details, ok := v.(map[string]any); ok {
				constraint, _ = details["version"].(string)
				if renamed, ok := details["package"].(string); ok {
					name = renamed
				}
				if inherited, _ := details["workspace"].(bool); inherited {
					if _, renamed := details["package"]; !renamed {
						continue // its name may be another in the workspace
					}
				}
			}
			wanted[name] = constraint
		}
	}
}

// locked returns the versions of the packages that a lock in TOML lists, by
// their names.
func (s *source) locked(l *lockFile) (map[string][]string, bool) {
	if l.raw == nil {
		return nil, false
	}
	var lock struct {
		Packages []struct {
			Name    string `toml:"name"`
			Version string `toml:"version"`
		} `toml:"package"`
		Pylock []struct {
			Name    string `toml:"name"`
			Version string `toml:"version"`
		} `toml:"packages"`
	}
	if err := decodeTOML(l.raw, &lock); err != nil {
		s.unreadable("no "+l.name, err)
		return nil, false
	}
	all := map[string][]string{}
	for _, p := range append(lock.Packages, lock.Pylock...) {
		all[p.Name] = append(all[p.Name], p.Version)
	}
	return all, true
}
