package release

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
)

// indexOf is an index with the versions, those after "-" withdrawn.
func indexOf(versions ...string) *Index {
	x := &Index{Schema: Schema, Name: "agentd", Sequence: 7}
	for _, v := range versions {
		e := IndexEntry{Version: v, Manifest: strings.Repeat("0", 64), Size: 1}
		if bare, ok := strings.CutPrefix(v, "yanked "); ok {
			e.Version, e.Yanked = bare, "loses records"
		}
		x.Releases = append(x.Releases, e)
	}
	return x
}

func TestRangeSelectsTheNewestOfferedReleaseAndNothingElse(t *testing.T) {
	versions := []string{
		"0.9.0", "1.1.9", "1.2.0", "1.2.3", "1.2.9", "1.3.0-rc.1", "1.3.0-rc.2", "1.3.0", "1.4.0", "yanked 1.5.0", "1.6.0-rc.1",
		"2.0.0-alpha", "2.0.0", "2.1.0-beta.1",
	}
	for text, want := range map[string][2]string{ // without and with pre-releases allowed
		"^1.2.0":               {"1.4.0", "1.6.0-rc.1"},
		"~1.2.3":               {"1.2.9", "1.2.9"},
		">=1.2, <2":            {"1.4.0", "1.6.0-rc.1"},
		">=1.2 <1.3":           {"1.2.9", "1.2.9"}, // 1.3.0-rc.2 is before 1.3.0, and leads to it
		"<2.0.0":               {"1.4.0", "1.6.0-rc.1"},
		">=1.2.0 <=1.3.0":      {"1.3.0", "1.3.0"},
		"1.2.0 - 1.3.0":        {"1.3.0", "1.3.0"},
		"^1.3.0-rc.1":          {"1.4.0", "1.6.0-rc.1"},
		"~1.6.0-rc.0":          {"1.6.0-rc.1", "1.6.0-rc.1"},
		"=1.3.0-rc.1":          {"1.3.0-rc.1", "1.3.0-rc.1"},
		"<1.3.0-rc.2 >1.2.9":   {"1.3.0-rc.1", "1.3.0-rc.1"},
		"^2.0.0-alpha":         {"2.0.0", "2.1.0-beta.1"},
		"~0.9.0 || ~1.2.0":     {"1.2.9", "1.2.9"},
		"^1.0.0, !=1.4.0":      {"1.3.0", "1.6.0-rc.1"},
		">=1.2.0-rc.1, <1.3.0": {"1.2.9", "1.2.9"},
	} {
		for i, allowed := range []bool{false, true} {
			r, err := ParseRange(text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if e, err := r.Select(indexOf(versions...), allowed); err != nil || e.Version != want[i] {
				t.Errorf("%s, pre-releases allowed %v: selected %s (%v), want %s", text, allowed, e.Version, err, want[i])
			}
		}
	}
}

func TestRangeThatFitsNothingSaysWhatThereIs(t *testing.T) {
	for text, c := range map[string]struct {
		versions []string
		want     error
		says     string
	}{
		"^3.0.0": {[]string{"1.0.0", "2.0.0", "2.1.0"}, ErrNotFound, "newest are 2.0.0, 2.1.0"},
		"^1.0.0": {[]string{"yanked 1.0.0", "yanked 1.1.0", "2.0.0"}, ErrYanked, "1.1.0: loses records"},
		"^1.1.0": {[]string{"1.1.0-rc.1", "1.2.0-rc.1"}, ErrNotFound, "only pre-releases of agentd are in the range ^1.1.0, such as 1.2.0-rc.1"},
		"~1.2.0": {[]string{"1.2.0+a", "1.2.0+b"}, nil, "1.2.0+a and 1.2.0+b differ in build metadata only"},
		"^0.1.0": {nil, ErrNotFound, "publish one first"},
	} {
		r, err := ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Select(indexOf(c.versions...), false)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %v that says %q", text, e, err, c.want, c.says)
		}
	}
	// A twin below the newest changes nothing.
	r, _ := ParseRange("^1.2.0")
	if e, err := r.Select(indexOf("1.2.0+a", "1.2.0+b", "1.3.0"), false); err != nil || e.Version != "1.3.0" {
		t.Errorf("%v, %v", e, err)
	}
}

func TestWhatIsNoRangeIsRefusedWithWhatToWrite(t *testing.T) {
	for text, says := range map[string]string{
		"latest":                        "tag or branch",
		"1.x":                           "partial version",
		"*":                             "tag or branch",
		"":                              "is empty",
		"v1":                            "partial version",
		"1.2.0":                         "exact version and no range",
		"^1.2.0+b":                      "build metadata",
		"^latest":                       "write such as ^1.2.0",
		">>1":                           "write such as ^1.2.0",
		"^1.2.0 ||":                     "write such as ^1.2.0",
		"||":                            "write such as ^1.2.0",
		">=" + fmt.Sprintf("%0400d", 1): "at most 256",
	} {
		if r, err := ParseRange(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseRange(%.40q) = %v, %v; want an error that says %q", text, r, err, says)
		}
	}
}

func TestRangeIsResolvedOnceInTheSignedIndexIntoAPin(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0", "1.2.0", "1.3.0-rc.1")
	if err := f.repository(1).Yank(t.Context(), "agentd", "1.2.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	c := f.client()
	want := f.entry("1.1.0").Pin()
	for _, text := range []string{"^1.0.0", "1.1.0", want.String()} {
		if pin, err := c.ResolveAny(t.Context(), text, Policy{}); err != nil || pin != want {
			t.Errorf("%s: %v, %v; want %v", text, pin, err, want)
		}
	}
	if pin, err := c.ResolveAny(t.Context(), "^1.0.0", Policy{AllowPrerelease: true}); err != nil || pin.Version != "1.3.0-rc.1" {
		t.Errorf("pre-releases allowed: %v, %v", pin, err)
	}
	for text, want := range map[string]error{
		"latest":                          ErrFloatingTag,
		"1.1":                             ErrFloatingTag,
		"^2.0.0":                          ErrNotFound,
		"1.2.0":                           ErrYanked,
		"=1.2.0":                          ErrYanked,
		"1.1.0@sha256:" + goodDigest:      ErrDigest,
		"latest@" + want.Digest:           ErrFloatingTag,
		"^1.0.0@sha256:" + goodDigest:     nil,
		"1.1.0@sha256:" + goodDigest[:63]: nil,
	} {
		if pin, err := c.ResolveAny(t.Context(), text, Policy{}); err == nil || want != nil && !errors.Is(err, want) || !pin.IsZero() {
			t.Errorf("%s: %v, %v; want %v and no pin", text, pin, err, want)
		}
	}
	// The index is trusted for nothing but what its signature covers.
	f.signIndex(2, f.index())
	f.remove(f.path("indexes"))
	if pin, err := c.ResolveRange(t.Context(), "^1.0.0", Policy{}); !errors.Is(err, ErrUntrusted) || !pin.IsZero() {
		t.Errorf("index of a stranger: %v, %v", pin, err)
	}
}

// precedence is section 11 of SemVer 2.0, and the neighbours of what git
// versions look like.
var precedence = []string{
	"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0",
	"1.4.2", "1.4.3-dev.0", "1.4.3-dev.2", "1.4.3-dev.10", "1.4.3-rc.1", "1.4.3-rc.1.dev.4", "1.4.3-rc.2", "1.4.3",
	"2.0.0", "2.1.0", "2.1.1", "2.10.0", "10.0.0",
}

func TestVersionsAreOrderedAsInSemVer2AndBuildMetadataOrdersNothing(t *testing.T) {
	parse := func(s string) *semver.Version {
		v, err := ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for i, a := range precedence {
		for j, b := range precedence {
			for _, metadata := range []string{"", "+1", "+g0123abc.dirty", "+999999"} {
				if got, want := parse(a+metadata).Compare(parse(b)), min(1, max(-1, i-j)); got != want {
					t.Errorf("%s against %s: %d, want %d", a+metadata, b, got, want)
				}
			}
		}
	}
	// Whatever the order of publishing, the index is written in this one.
	for range 20 {
		x := indexOf(precedence...)
		rand.Shuffle(len(x.Releases), func(i, j int) { x.Releases[i], x.Releases[j] = x.Releases[j], x.Releases[i] })
		x.sortReleases()
		for i, e := range x.Releases {
			if e.Version != precedence[i] {
				t.Fatalf("release %d of the index is %s, want %s", i, e.Version, precedence[i])
			}
		}
	}
}

// What a range includes must not depend on the order or the other releases of
// the index, and no pre-release may slip in.
func TestSelectionIsTheGreatestIncludedWhateverTheIndex(t *testing.T) {
	ranges := []string{"^1.0.0", "~1.4.2", ">=1.0.0-beta, <2", "<2.0.0", ">0.9.9", "^1.4.3-rc.1", ">=2 || ^0.9.0"}
	for range 500 {
		text := ranges[rand.IntN(len(ranges))]
		r, err := ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		allowed := rand.IntN(2) == 0
		var there []string
		want := -1
		for _, i := range rand.Perm(len(precedence))[:rand.IntN(len(precedence))] {
			there = append(there, precedence[i])
			v, _ := ParseVersion(precedence[i])
			if r.Includes(v, allowed) {
				want = max(want, i)
			}
		}
		e, err := r.Select(indexOf(there...), allowed)
		if want < 0 && err == nil || want >= 0 && (err != nil || e.Version != precedence[want]) {
			t.Fatalf("%s in %v (pre-releases %v): %v, %v; want %d", text, there, allowed, e.Version, err, want)
		}
		if !allowed && strings.Contains(e.Version, "-") && !strings.Contains(text, "-") {
			t.Fatalf("%s in %v selected the pre-release %s unasked", text, there, e.Version)
		}
	}
}

func TestSecondVersionThatDiffersInBuildMetadataOnlyIsNotPublished(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0+a")
	before := f.read(f.path(indexPath))
	for _, v := range []string{"1.0.0+b", "1.0.0"} {
		if _, err := f.repository(1).Publish(t.Context(), f.release(v)); err == nil || !strings.Contains(err.Error(), "build metadata only") {
			t.Errorf("%s beside 1.0.0+a: %v", v, err)
		}
	}
	if string(f.read(f.path(indexPath))) != string(before) {
		t.Error("the index was changed")
	}
	f.publish("1.0.1")
	// A host that runs one is not led to the other by whatever index lists both.
	running, _ := ParseVersion("1.0.0+a")
	if err := CheckPolicy(Policy{}, running, &Manifest{Version: "1.0.0+b"}, PolicyContext{}); !errors.Is(err, ErrPolicy) {
		t.Errorf("from 1.0.0+a to 1.0.0+b: %v, want ErrPolicy", err)
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"^1.2.0", "~1.2.3", ">=1.2, <2", "1.2.0 - 1.4.0", "^1.3.0-rc.1 || =2.0.0", "!=1.0.0", "latest", "^1.2.0+b", ">=1.2.0\x00"} {
		f.Add(s)
	}
	x := indexOf(precedence...)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Errorf("%q is read as %q", s, r)
		}
		if _, err := ParseVersion(s); err == nil {
			t.Errorf("%q is both a version and a range", s)
		}
		e, err := r.Select(x, false)
		if err != nil {
			return
		}
		if v, err := ParseVersion(e.Version); err != nil || !r.Includes(v, true) {
			t.Errorf("%q selected %s, which it does not include (%v)", s, e.Version, err)
		}
	})
}

func FuzzPin(f *testing.F) {
	good := "1.2.0@sha256:" + goodDigest
	for _, s := range []string{good, "latest@sha256:" + goodDigest, good + "@" + good, "1.2.0@sha256:" + strings.ToUpper(goodDigest), "1.2.0+b@sha256:" + goodDigest, " " + good, "1.2.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePin(s)
		if err != nil {
			return
		}
		if p.String() != s || p.Validate() != nil {
			t.Errorf("%q is read as pin %q (%v)", s, p, p.Validate())
		}
		for _, path := range []string{manifestPath(p.hex()), blobPath(p.hex()), p.Version} {
			if err := checkPath(path); err != nil && !strings.Contains(path, "+") {
				t.Error(err)
			}
		}
		if strings.ContainsAny(p.Version, string(os.PathSeparator)+"/\\@") {
			t.Errorf("version %q can leave a directory", p.Version)
		}
	})
}
