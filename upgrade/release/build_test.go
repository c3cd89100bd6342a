package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// commitTime is when the sources of goProgram were committed.
var commitTime = time.Date(2029, 5, 6, 7, 8, 9, 0, time.UTC)

// run runs a command of the developer's, without what their machine configures.
func run(tb testing.TB, dir, name string, args ...string) string {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE="+commitTime.Format(time.RFC3339), "GIT_COMMITTER_DATE="+commitTime.Format(time.RFC3339))
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

const semverPath = "github.com/Masterminds/semver/v3"

// semverVersion is the version that this module requires, which is at hand.
func semverVersion(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), semverPath+" ")
	return strings.Fields(after)[0]
}

// goProgram commits the sources of a small program, and builds it for linux on
// two architectures.
func goProgram(tb testing.TB, dirty bool) (revision string, binaries []Binary) {
	tb.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		tb.Skip("git is not installed")
	}
	src, out := tb.TempDir(), tb.TempDir()
	sums, err := os.ReadFile(filepath.Join("..", "..", "go.sum"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(src, "part"), 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module example.com/demo\n\ngo 1.26\n\nrequire (\n\t" + semverPath + " " + semverVersion(tb) +
			"\n\texample.com/part v0.1.0\n)\n\nreplace example.com/part => ./part\n",
		"go.sum":       string(sums),
		"main.go":      "package main\n\nimport (\n\t\"example.com/part\"\n\t\"" + semverPath + "\"\n)\n\nfunc main() { semver.MustParse(part.Version) }\n",
		"part/go.mod":  "module example.com/part\n\ngo 1.26\n",
		"part/part.go": "package part\n\nconst Version = \"1.0.0\"\n",
	} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	run(tb, src, "git", "init", "-q")
	run(tb, src, "git", "add", ".")
	run(tb, src, "git", "commit", "-qm", "all")
	if dirty {
		if err := os.WriteFile(filepath.Join(src, "more.go"), []byte("package main\n"), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	for _, arch := range []string{"arm64", "amd64"} {
		path := filepath.Join(out, "demo-"+arch)
		run(tb, src, "env", "GOOS=linux", "GOARCH="+arch, "go", "build", "-buildvcs=true", "-trimpath", "-o", path, ".")
		binaries = append(binaries, Binary{OS: "linux", Arch: arch, Path: path})
	}
	return run(tb, src, "git", "rev-parse", "HEAD"), binaries
}

func TestBuildOfAnExecutableIsWhatTheLinkerWrote(t *testing.T) {
	revision, binaries := goProgram(t, true)
	b, err := ReadBuild(binaries[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	want := &Build{
		Go: runtime.Version(), Package: "example.com/demo", Module: Module{Path: "example.com/demo", Version: b.Module.Version},
		Revision: revision, Time: commitTime, Modified: true,
		Modules: []Module{{Path: "example.com/part", Version: "v0.1.0", Replace: "./part"}, {Path: semverPath, Version: semverVersion(t), Sum: b.Modules[1].Sum}},
	}
	slices.SortFunc(want.Modules, func(x, y Module) int { return strings.Compare(x.Path, y.Path) })
	if !reflect.DeepEqual(b, want) || !strings.HasPrefix(b.Module.Version, "v0.0.0-2029") || len(b.Modules[1].Sum) != 47 {
		t.Errorf("build %+v\nwant %+v", b, want)
	}
}

func TestFileWithoutBuildIsToldAndStillPublished(t *testing.T) {
	f := newFixture(t)
	for name, content := range map[string]string{"script": "#!/bin/sh\n", "forged": "\x7fELF" + strings.Repeat("\xff", 4096), "magic": "\xff Go buildinf:" + strings.Repeat("\xff", 64)} {
		path := filepath.Join(t.TempDir(), name)
		f.write(path, []byte(content))
		if b, err := ReadBuild(path); !errors.Is(err, ErrNoBuild) {
			t.Errorf("%s: %+v, %v; want ErrNoBuild", name, b, err)
		}
	}
	f.publish("1.0.0")
	if m := f.manifest("1.0.0"); m.Platforms[0].Build != nil {
		t.Errorf("build %+v of what was not built by Go", m.Platforms[0].Build)
	}
	if _, err := ReadBuild(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

// TestSameBinariesMakeTheSameManifest: else nobody could tell by building
// again that a release is of the sources that it names.
func TestSameBinariesMakeTheSameManifest(t *testing.T) {
	revision, binaries := goProgram(t, false)
	var indexes, manifests, signatures [][]byte
	for i := range 2 {
		f := newFixture(t)
		rel := f.release("1.0.0")
		rel.Revision, rel.Binaries = "", slices.Clone(binaries)
		if i == 1 {
			slices.Reverse(rel.Binaries)
		}
		if _, err := f.repository(1).Publish(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
		m := f.manifest("1.0.0")
		if m.Revision != revision || !m.Created.Equal(commitTime) {
			t.Errorf("revision %s, created %v; want those of the commit, %s and %v", m.Revision, m.Created, revision, commitTime)
		}
		for _, p := range m.Platforms {
			if b := p.Build; b == nil || b.Revision != revision || !b.Time.Equal(commitTime) || b.Modified || b.Module.Path != "example.com/demo" || b.Go != runtime.Version() {
				t.Errorf("build of %s: %+v", p, b)
			}
		}
		path := manifestPath(f.entry("1.0.0").Manifest)
		manifests, signatures = append(manifests, f.read(f.path(path))), append(signatures, f.read(f.path(path+signatureSuffix)))
		indexes = append(indexes, f.read(f.path(indexPath)))
	}
	for what, both := range map[string][][]byte{"manifest": manifests, "manifest's signature": signatures, "index, signed at the same time": indexes} {
		if !bytes.Equal(both[0], both[1]) {
			t.Errorf("the %s differs:\n%s\n%s", what, both[0], both[1])
		}
	}
	f := newFixture(t)
	f.clock = f.clock.Add(time.Hour)
	rel := f.release("1.0.0")
	rel.Revision, rel.Binaries = "", binaries
	if _, err := f.repository(1).Publish(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	if got := f.read(f.path(manifestPath(f.entry("1.0.0").Manifest))); !bytes.Equal(got, manifests[0]) {
		t.Errorf("an hour later the manifest is\n%s\nwant\n%s", got, manifests[0])
	}
}

func TestBuildOfATreeWithChangesIsMarkedAndDatedByTheClock(t *testing.T) {
	revision, binaries := goProgram(t, true)
	f := newFixture(t)
	rel := f.release("1.0.0")
	rel.Revision, rel.Binaries = "", binaries
	if _, err := f.repository(1).Publish(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	m := f.manifest("1.0.0")
	if m.Revision != revision+"+dirty" || !m.Created.Equal(issued) || !m.Platforms[0].Build.Modified {
		t.Errorf("revision %s, created %v, build %+v", m.Revision, m.Created, m.Platforms[0].Build)
	}
	rel = f.release("1.1.0")
	rel.Binaries, rel.Created = binaries, commitTime.Add(time.Minute)
	if _, err := f.repository(1).Publish(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	if m := f.manifest("1.1.0"); m.Revision != "0123abc" || !m.Created.Equal(rel.Created) {
		t.Errorf("what was given is overridden: revision %s, created %v", m.Revision, m.Created)
	}
}

func TestReleasePublishedBeforeBuildsWereReadIsStillTheSame(t *testing.T) {
	_, binaries := goProgram(t, false)
	f := newFixture(t)
	rel := f.release("1.0.0")
	rel.Revision, rel.Binaries = "", binaries
	if _, err := f.repository(1).Publish(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	m := f.manifest("1.0.0")
	m.Revision = ""
	for i := range m.Platforms {
		m.Platforms[i].Build = nil
	}
	raw, err := encodeDocument(m)
	if err != nil {
		t.Fatal(err)
	}
	want := f.signManifest(1, "1.0.0", raw)
	if pin, err := f.repository(1).Publish(t.Context(), rel); err != nil || pin != want {
		t.Errorf("published again as %v (%v), want %v", pin, err, want)
	}
	m.Platforms[0].Build = &Build{Go: "go1.1"}
	if raw, err = encodeDocument(m); err != nil {
		t.Fatal(err)
	}
	f.signManifest(1, "1.0.0", raw)
	if _, err := f.repository(1).Publish(t.Context(), rel); err == nil || !strings.Contains(err.Error(), "other content") {
		t.Errorf("another build passes for the same: %v", err)
	}
}

func TestPublishingAgainMendsManifestAndSignature(t *testing.T) {
	_, binaries := goProgram(t, false)
	f := newFixture(t)
	rel := f.release("1.0.0")
	rel.Binaries = binaries
	want, err := f.repository(1).Publish(t.Context(), rel)
	if err != nil {
		t.Fatal(err)
	}
	path := f.path(manifestPath(want.hex()))
	good, signature := f.read(path), f.read(path+signatureSuffix)
	for name, damage := range map[string]func(){
		"manifest lost":      func() { f.remove(path) },
		"manifest truncated": func() { f.write(path, good[:10]) },
		"signature lost":     func() { f.remove(path + signatureSuffix) },
		"signature of a stranger": func() {
			f.write(path+signatureSuffix, sign(fixtureKey(t, 2), good, "agentd 1.0.0"))
		},
	} {
		damage()
		if pin, err := f.repository(1).Publish(t.Context(), rel); err != nil || pin != want {
			t.Errorf("%s: %v, %v", name, pin, err)
		}
		if !bytes.Equal(f.read(path), good) || !bytes.Equal(f.read(path+signatureSuffix), signature) {
			t.Errorf("%s: not mended", name)
		}
	}
	// Other content is no way to have a signature made.
	f.remove(path + signatureSuffix)
	rel.Revision = "other"
	if _, err := f.repository(1).Publish(t.Context(), rel); err == nil {
		t.Error("other content was accepted")
	}
	if _, err := os.Stat(path + signatureSuffix); err == nil {
		t.Error("a refused publication wrote a signature")
	}
}

func FuzzBuild(f *testing.F) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		f.Add(info.String())
	}
	f.Add("go\tgo1.26\npath\tx\nmod\tx\tv1.0.0\th1:x\ndep\ty\tv2\n=>\tz\tv3\th1:\nbuild\tvcs.time=9999-99-99T00:00:00Z\n")
	f.Add(fmt.Sprintf("path\t%01100d\nbuild\tvcs.modified=true\n", 0))
	f.Fuzz(func(t *testing.T, text string) {
		info, err := debug.ParseBuildInfo(text)
		if err != nil {
			return
		}
		b, err := buildOf(info)
		if err != nil {
			return
		}
		m := Manifest{Schema: 1, Name: "x", Version: "1.0.0", Created: issued, Platforms: []Platform{{OS: "linux", Arch: "amd64", SHA256: goodDigest, Size: 1, Build: b}}}
		raw, err := encodeDocument(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(raw); err != nil && len(raw) <= MaxManifestSize {
			t.Errorf("what was read of a build makes a manifest that cannot be read: %v\n%s", err, raw)
		}
	})
}

func TestBuildInAManifestIsReadAndWrittenAsEver(t *testing.T) {
	raw := golden(t, "manifest-1-build.json")
	m, err := ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	b := m.Platforms[0].Build
	if b == nil || b.Go != "go1.26.8" || !b.Modified || b.Module.Version != "v1.1.0" || len(b.Modules) != 2 || b.Modules[0].Replace != "example.com/other@v0.2.0" || b.Time.Year() != 2030 {
		t.Errorf("build %+v", b)
	}
	if m.Platforms[1].Build != nil {
		t.Error("a platform without a build has one")
	}
	if again, err := encodeDocument(m); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("now written as\n%s (%v)", again, err)
	}
	for name, spoil := range map[string][2]string{
		"escape sequence": {"example.com/fork", `\u001b[2J`},
		"endless text":    {"example.com/fork", strings.Repeat("x", maxBuildString+1)},
	} {
		if _, err := ParseManifest(bytes.Replace(raw, []byte(spoil[0]), []byte(spoil[1]), 1)); err == nil || !strings.Contains(err.Error(), "build: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
