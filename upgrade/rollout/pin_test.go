package rollout

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

func pinHex(c string) string    { return strings.Repeat(c, 64) }
func pinDigest(c string) string { return digestPrefix + pinHex(c) }

func pinOf(version, c string) release.Pin { return release.Pin{Version: version, Digest: pinDigest(c)} }

func goldenPin(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/pin-1.json")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(data)
}

func TestPinOfAnotherReleaseIsStillReadAndWrittenAlike(t *testing.T) {
	p, err := ParsePin("production", goldenPin(t))
	if err != nil {
		t.Fatal(err)
	}
	if p.Release != pinOf("1.2.0", "a") || p.Binaries["linux/amd64"] != pinHex("b") || p.Plugins["logtail"] != pinDigest("c") ||
		p.Config["group/web"] != pinDigest("d") || p.By != "ops@desk" || p.Rollout != "r-7" || p.At.Year() != 2030 {
		t.Errorf("%+v", p)
	}
	if text, err := p.encode(); err != nil || text != string(goldenPin(t)) {
		t.Errorf("it is now written as %s (%v)", text, err)
	}
	later := bytes.Replace(goldenPin(t), []byte(`"by"`), []byte(`"of_a_later_release":[1],"by"`), 1)
	if _, err := ParsePin("production", later); err != nil {
		t.Errorf("a member of a later release is not passed over: %v", err)
	}
}

func TestPinThatIsNoneIsRefused(t *testing.T) {
	good := string(goldenPin(t))
	for name, c := range map[string]struct{ before, after, says string }{
		"newer schema":      {`"schema":1`, `"schema":2`, "schema 2"},
		"other environment": {`"production"`, `"test"`, `"test"`},
		"floating version":  {`"1.2.0"`, `"latest"`, "latest"},
		"short digest":      {`"sha256:` + pinHex("a"), `"sha256:ab`, "64 lower-case"},
		"platform":          {`"linux/amd64"`, `"linux"`, "linux"},
		"binary":            {pinHex("b"), strings.Repeat("B", 64), "binaries"},
		"plugin":            {`"logtail"`, `"../logtail"`, "../logtail"},
		"scope":             {`"group/web"`, `"group/a/b"`, "group/a/b"},
		"terminal escape":   {"the summer", `\u001b[2J`, "reason"},
		"before of another": {`"rollout"`, `"before":{"schema":1,"environment":"test","release":{"version":"1.0.0","digest":"` + pinDigest("a") + `"}},"rollout"`, "same environment"},
		"twice":             {`"by"`, `"By":"x","by"`, "twice"},
		"no object":         {good, `[]`, "object"},
		"nothing to expect": {good, `{"schema":1,"environment":"production","at":"2030-01-02T03:04:05Z"}`, "neither"},
		"endless":           {"the summer", strings.Repeat("a", maxPin), "at most"},
		"deep":              {`"by"`, `"x":[[[[1]]]],"by"`, "deeper"},
	} {
		_, err := ParsePin("production", []byte(strings.Replace(good, c.before, c.after, 1)))
		if !errors.Is(err, ErrPin) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestCompletedRolloutMovesItsPinAndNothingElse(t *testing.T) {
	before, err := ParsePin("production", goldenPin(t))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC)
	plan := Plan{ID: "r-8", By: "ops\x1b@x", Target: Target{Release: pinOf("1.3.0", "e"), Program: "agentd"}}
	next := plan.Pin("production", before, at)
	if _, err := next.encode(); err != nil {
		t.Fatal(err)
	}
	if next.Release != plan.Target.Release || next.Binaries != nil || next.Plugins["logtail"] != pinDigest("c") || next.Rollout != "r-8" || !next.At.Equal(at) {
		t.Errorf("%+v", next)
	}
	if again := plan.Pin("production", next, at); again.Release != next.Release {
		t.Errorf("%+v", again)
	}
	plan.Binaries = map[string]string{"linux/arm64": pinHex("7")}
	if next = plan.Pin("production", before, at); !maps.Equal(next.Binaries, plan.Binaries) {
		t.Errorf("the executables of the new release are not pinned: %v", next.Binaries)
	}
	plan.Target = Target{Config: &ConfigTarget{Scope: "global", Digest: pinDigest("f")}}
	next = plan.Pin("production", before, at)
	if next.Release != before.Release || next.Config["global"] != pinDigest("f") || next.Config["group/web"] != pinDigest("d") || before.Config["global"] != "" {
		t.Errorf("%+v, was %+v", next, before)
	}
	plan.Target.Config = &ConfigTarget{Scope: "group/web"}
	if next = plan.Pin("production", before, at); len(next.Config) != 0 {
		t.Errorf("a document that was taken away is still pinned: %v", next.Config)
	}
}

func FuzzPinFromEtcd(f *testing.F) {
	f.Add(goldenPin(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePin("production", data)
		if err != nil {
			return
		}
		text, err := p.encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := ParsePin("production", []byte(text))
		if err != nil || again.Release != p.Release || !maps.Equal(again.Binaries, p.Binaries) || !maps.Equal(again.Config, p.Config) {
			t.Fatalf("%+v came back as %+v (%v)", p, again, err)
		}
	})
}
