package health

import (
	"fmt"
	"slices"
	"time"
)

// addAll adds checks, those first that others come after.
func (m *Monitor) addAll(checks []Check) error {
	left := slices.Clone(checks)
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(c Check) bool {
			return !slices.ContainsFunc(left, func(o Check) bool { return slices.Contains(c.After, o.Name) })
		})
		if i < 0 {
			return fmt.Errorf("%w: check %s comes after %q, which come after it: let one of them come first", ErrInvalid, left[0].Name, left[0].After)
		}
		if err := m.AddCheck(left[i]); err != nil {
			return err
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// checkAfter says why c cannot come after what it names. m.mu is held.
func (m *Monitor) checkAfter(c Check) error {
	for _, name := range c.After {
		_, isCondition := m.conditions[name]
		if m.probes[name] == nil && !isCondition {
			return fmt.Errorf("%w: check %s comes after %q, and there is no check or condition of that name: add that first, or list the condition in Config.Conditions", ErrInvalid, c.Name, name)
		}
		if m.comesAfter(name, c.Name) {
			return fmt.Errorf("%w: check %s comes after %s, which comes after it: let one of them come first", ErrInvalid, c.Name, name)
		}
	}
	return nil
}

// comesAfter reports whether the check called name waits for other, directly or
// through others. m.mu is held.
func (m *Monitor) comesAfter(name, other string) bool {
	if name == other {
		return true
	}
	p := m.probes[name]
	return p != nil && slices.ContainsFunc(p.check.After, func(before string) bool { return m.comesAfter(before, other) })
}

// depth is how many checks in a row come before p at most. m.mu is held.
func (m *Monitor) depth(p *probe) int {
	deepest := 0
	for _, name := range p.check.After {
		if before := m.probes[name]; before != nil {
			deepest = max(deepest, 1+m.depth(before))
		}
	}
	return deepest
}

// waitsFor names what keeps p from being run, "" if nothing does, and whether
// that fails or only has no result yet. m.mu is held.
func (m *Monitor) waitsFor(p *probe) (name string, fails bool) {
	for _, before := range p.check.After {
		ok, known := true, true
		if q := m.probes[before]; q != nil {
			ok, known = q.ok(), q.ran
		} else if c := m.conditions[before]; c != nil {
			ok, known = c.ok(), c.told()
		}
		if !ok && known {
			return before, true
		}
		if !ok && name == "" {
			name = before
		}
	}
	return name, false
}

// propagate brings those checks in step that come after others, when one of
// these has another result. m.mu is held.
func (m *Monitor) propagate(now time.Time) {
	for again := true; again; {
		again = false
		for _, p := range m.probes {
			if len(p.check.After) == 0 || p.settled() {
				continue
			}
			name, fails := m.waitsFor(p)
			switch {
			case fails && p.blocker != name:
				p.block(name, now)
				again = true
			case !fails && p.blocker != "":
				p.unblock(now)
				again = true
			}
		}
	}
	notify(m.wake)
}

// block has p fail because name does. A call under way has begun under another
// condition, so that its result is dropped.
func (p *probe) block(name string, now time.Time) {
	if p.ok() || !p.ran {
		p.since = now
	}
	p.blocker, p.ran, p.text, p.at, p.duration = name, true, "not run: "+name+" fails", now, 0
	if a := p.inflight; a != nil {
		a.stale = true
		a.cancel()
	}
}

// unblock has p run as soon as may be; until then it has no result.
func (p *probe) unblock(now time.Time) {
	p.blocker, p.ran, p.text, p.at, p.due = "", false, "", time.Time{}, now
}
