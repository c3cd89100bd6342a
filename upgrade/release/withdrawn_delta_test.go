package release

import (
	"slices"
	"strings"
	"testing"
)

// froms lists the releases that m has deltas from.
func froms(m *Manifest) []int {
	var found []int
	for n := range 10 {
		if slices.ContainsFunc(m.Platforms[0].Deltas, func(d Delta) bool { return d.From == sha256Hex(program(n)) }) {
			found = append(found, n)
		}
	}
	return found
}

func (f *forms) yank(n int) {
	f.tb.Helper()
	if err := f.repository().Yank(f.tb.Context(), "agentd", version(n), "it crashes"); err != nil {
		f.tb.Fatal(err)
	}
}

// The hosts that run a withdrawn release are the ones that wait for the fix.
func TestHostWithAWithdrawnReleaseGetsTheFixAsADelta(t *testing.T) {
	t.Parallel()
	f := newForms(t)
	f.publish(1)
	f.publish(2)
	f.yank(2)
	m := f.publish(3)
	delta := deltaOf(t, m, FormatZstd, 2)
	deltaOf(t, m, FormatZstd, 1)
	got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{Old: f.old(2)})
	if err != nil || !strings.HasSuffix(got.Form, " from "+delta.From[:12]) {
		t.Errorf("fetched %+v, %v, want a delta from the withdrawn release", got, err)
	}
	f.wantOnly(3)
}

func TestWithdrawnReleasesNeitherCrowdOutNorMultiplyDeltas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		withdrawn, want []int
	}{
		"none":                  {nil, []int{4, 5}},
		"the newest":            {[]int{5}, []int{3, 4, 5}},
		"between":               {[]int{4}, []int{3, 4, 5}},
		"older than the bases":  {[]int{1, 2}, []int{4, 5}},
		"more than as many":     {[]int{2, 3, 4, 5}, []int{1, 4, 5}},
		"all":                   {[]int{1, 2, 3, 4, 5}, []int{4, 5}},
		"two after two offered": {[]int{2, 3}, []int{4, 5}},
	} {
		x := &Index{}
		for n := 1; n <= 7; n++ {
			e := IndexEntry{Version: version(n)}
			if slices.Contains(c.withdrawn, n) {
				e.Yanked = "it crashes"
			}
			x.Releases = append(x.Releases, e)
		}
		bases, err := x.bases(Release{Version: version(6), DeltaFrom: 2})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range slices.Backward(bases) {
			got = append(got, b.Version)
		}
		var want []string
		for _, n := range c.want {
			want = append(want, version(n))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: deltas from %q, want %q", name, got, want)
		}
		if bases, err = x.bases(Release{Version: version(6)}); err != nil || len(bases) > 0 {
			t.Errorf("%s: no deltas are wanted, found %v, %v", name, bases, err)
		}
	}
}

// A withdrawn release cannot be published again, so that its damage must not
// keep the fix from being published.
func TestDamageOfAWithdrawnReleaseDoesNotKeepTheFixBack(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(f *forms, manifest string){
		"manifest lost":    func(f *forms, manifest string) { f.remove(manifest) },
		"manifest damaged": func(f *forms, manifest string) { f.write(manifest, []byte("{}")) },
		"binary lost":      func(f *forms, _ string) { f.remove(f.path(blobPath(sha256Hex(program(2))))) },
		"binary damaged":   func(f *forms, _ string) { f.write(f.path(blobPath(sha256Hex(program(2)))), program(7)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForms(t)
			f.publish(1)
			f.publish(2)
			manifest := f.path(manifestPath(f.entry(version(2)).Manifest))
			f.yank(2)
			damage(f, manifest)
			if got := froms(f.publish(3)); !slices.Equal(got, []int{1}) {
				t.Errorf("deltas from releases %v, want from the first alone", got)
			}
		})
	}
}
