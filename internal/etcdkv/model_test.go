package etcdkv_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// history is what the one writer of a store knows about it.
type history struct {
	revision int64
	now      map[string]etcdkv.Value
	// past holds the whole store after each revision that changed it.
	past map[int64]map[string]etcdkv.Value
}

func newHistory(revision int64) *history {
	h := &history{now: map[string]etcdkv.Value{}, past: map[int64]map[string]etcdkv.Value{}}
	h.commit(revision, nil)
	return h
}

// commit makes the changes of one transaction; nil deletes.
func (h *history) commit(revision int64, changes map[string]*etcdkv.Value) {
	h.now = maps.Clone(h.now)
	for key, v := range changes {
		was, existed := h.now[key]
		if v == nil {
			delete(h.now, key)
			continue
		}
		now := *v
		now.ModRevision, now.CreateRevision = revision, revision
		if existed {
			now.CreateRevision = was.CreateRevision
		}
		h.now[key] = now
	}
	for r := h.revision + 1; r < revision && h.revision > 0; r++ {
		panic(fmt.Sprintf("revision %d is not known: somebody else writes", r))
	}
	h.revision = revision
	h.past[revision] = h.now
}

// seen is a view as it was told, with a copy of its values.
type seen struct {
	view   etcdkv.View
	values map[string]etcdkv.Value
}

// follower is a receiver of views that checks each of them by itself when it
// comes, and against the store's history at the next quiet point.
type follower struct {
	keys, prefixes []string
	slow           func() // called in OnChange

	mu     sync.Mutex
	shadow map[string]etcdkv.Value // what applying Changed alone gives
	views  []seen                  // since the last quiet point
	faults []string
	err    error
	told   int
}

func (f *follower) watches(key string) bool {
	return slices.Contains(f.keys, key) ||
		slices.ContainsFunc(f.prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}

// part is what of a store this follower sees.
func (f *follower) part(store map[string]etcdkv.Value) map[string]etcdkv.Value {
	part := maps.Clone(store)
	maps.DeleteFunc(part, func(key string, _ etcdkv.Value) bool { return !f.watches(key) })
	return part
}

func (f *follower) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

func (f *follower) change(v etcdkv.View) {
	f.slow()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told++
	if !slices.IsSorted(v.Changed) || len(slices.Compact(slices.Clone(v.Changed))) != len(v.Changed) {
		f.fault("changed keys are not sorted, or not unique: %q", v.Changed)
	}
	if f.shadow == nil {
		f.shadow = map[string]etcdkv.Value{}
	} else if len(v.Changed) == 0 {
		f.fault("a view without a change")
	}
	for _, key := range v.Changed {
		now, exists := v.Values[key]
		was, existed := f.shadow[key]
		if exists == existed && same(was, now) {
			f.fault("%s did not change: %s", key, show(now))
		}
		if exists {
			f.shadow[key] = now
		} else {
			delete(f.shadow, key)
		}
	}
	if !equal(f.shadow, v.Values) {
		f.fault("what changed does not lead to the view: %s, want %s", describe(f.shadow), describe(v.Values))
	}
	if v.Folded < 0 || v.Waited < 0 {
		f.fault("folded %d, waited %s", v.Folded, v.Waited)
	}
	f.views = append(f.views, seen{view: v, values: maps.Clone(v.Values)})
}

func (f *follower) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// settled reports why f does not show exactly want yet.
func (f *follower) settled(want map[string]etcdkv.Value) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	want = f.part(want)
	switch {
	case f.shadow == nil:
		return fmt.Errorf("%q %q: no view", f.keys, f.prefixes)
	case !equal(f.shadow, want):
		return fmt.Errorf("%q %q: view %s, store %s", f.keys, f.prefixes, describe(f.shadow), describe(want))
	case f.err != nil:
		return fmt.Errorf("%q %q: error not withdrawn: %w", f.keys, f.prefixes, f.err)
	}
	return nil
}

// check compares what was told since the last quiet point with what was
// written. exact means that the store never went back meanwhile.
func (f *follower) check(t *testing.T, h *history, exact bool) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		t.Errorf("%q %q: %s", f.keys, f.prefixes, fault)
	}
	var last seen
	for i, s := range f.views {
		if exact {
			f.checkView(t, h, s)
		}
		if exact && i > 0 {
			checkOrder(t, last, s)
		}
		last = s
	}
	f.views, f.faults = f.views[max(len(f.views)-1, 0):], nil
}

// checkView: a view is never older than it says, and with a single prefix it
// is the store at one revision.
func (f *follower) checkView(t *testing.T, h *history, s seen) {
	t.Helper()
	single := len(f.keys)+len(f.prefixes) == 1
	missing := map[string]bool{}
	for _, key := range slices.Concat(slices.Collect(maps.Keys(s.values)), slices.Collect(maps.Keys(h.now)), s.view.Changed) {
		missing[key] = f.watches(key)
	}
	for r := s.view.Revision; r <= h.revision; r++ {
		store := f.part(h.past[r])
		if equal(s.values, store) {
			return
		}
		for key := range missing {
			was, existed := store[key]
			now, exists := s.values[key]
			if existed == exists && same(was, now) {
				delete(missing, key)
			}
		}
	}
	if single {
		t.Errorf("%q: the view at revision %d is at no revision what the store was: %s", f.prefixes, s.view.Revision, describe(s.values))
	}
	for key, watched := range missing {
		if watched {
			t.Errorf("%s at revision %d is what it was before or never: %s", key, s.view.Revision, show(s.values[key]))
		}
	}
}

// checkOrder: neither the revision nor a key goes back.
func checkOrder(t *testing.T, last, s seen) {
	t.Helper()
	if s.view.Revision < last.view.Revision {
		t.Errorf("revision %d after %d", s.view.Revision, last.view.Revision)
	}
	for key, v := range s.values {
		if was, existed := last.values[key]; existed && v.ModRevision < was.ModRevision {
			t.Errorf("%s went back from revision %d to %d", key, was.ModRevision, v.ModRevision)
		}
	}
}

func same(a, b etcdkv.Value) bool {
	return string(a.Data) == string(b.Data) && a.ModRevision == b.ModRevision &&
		a.CreateRevision == b.CreateRevision && a.Lease == b.Lease
}

func equal(a, b map[string]etcdkv.Value) bool { return maps.EqualFunc(a, b, same) }

func show(v etcdkv.Value) string { return fmt.Sprintf("%.20q@%d", v.Data, v.ModRevision) }

func describe(values map[string]etcdkv.Value) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		all = append(all, key+"="+show(values[key]))
	}
	return "{" + strings.Join(all, " ") + "}"
}

// span is a time that a test lets something take.
func span(most time.Duration, share float64) time.Duration {
	return time.Duration(float64(most) * share)
}
