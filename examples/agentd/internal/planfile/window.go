package planfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// week is the days of the week as a plan names them.
func week() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// ParseWindow reads "Mon-Fri 22:00-04:00 Europe/Berlin": days, which may be left
// out and may be a list as in Mon,Wed-Fri, then from and to, then a zone, which
// is UTC if it is left out.
func ParseWindow(text string) (rollout.Window, error) {
	var w rollout.Window
	words := strings.Fields(text)
	wrong := func(what string) error {
		return fmt.Errorf("want a window such as \"Mon-Fri 22:00-04:00 Europe/Berlin\", found %q: %s", text, what)
	}
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		for part := range strings.SplitSeq(words[0], ",") {
			some, ok := daysOf(part)
			if !ok {
				return rollout.Window{}, wrong(fmt.Sprintf("%q is no day or range of days", part))
			}
			w.Days = append(w.Days, some...)
		}
		words = words[1:]
	}
	if len(words) == 0 || len(words) > 2 {
		return rollout.Window{}, wrong("want a time from-to, and perhaps a zone after it")
	}
	from, to, ok := strings.Cut(words[0], "-")
	if !ok {
		return rollout.Window{}, wrong(fmt.Sprintf("%q is no time from-to", words[0]))
	}
	if w.From, w.To = from, to; len(words) == 2 {
		w.Zone = words[1]
	}
	return w, nil
}

// daysOf reads "Mon" or "Fri-Mon", which goes over the end of the week.
func daysOf(text string) ([]string, bool) {
	days := week()
	first, last, ranged := strings.Cut(strings.ToLower(text), "-")
	if !ranged {
		last = first
	}
	from, to := slices.Index(days, first), slices.Index(days, last)
	if from < 0 || to < 0 {
		return nil, false
	}
	all := []string{days[from]}
	for from != to {
		from = (from + 1) % len(days)
		all = append(all, days[from])
	}
	return all, true
}
