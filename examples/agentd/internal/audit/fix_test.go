package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/peertest"
)

// pushed puts an artifact into a registry under the tags and returns its digest.
func pushed(t *testing.T, address, repository string, tags ...string) string {
	t.Helper()
	repo, err := remote.NewRepository(address + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	d, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{
		ManifestAnnotations: map[string]string{"name": repository + strings.Join(tags, " ")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if _, err := oras.Tag(t.Context(), repo, d.Digest.String(), tag); err != nil {
			t.Fatal(err)
		}
	}
	return d.Digest.String()
}

// noActions is a git server that has none.
func noActions(t *testing.T) Actions {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	g, err := NewGitServer(GitServerConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// fixed audits and fixes a directory with a registry.
func fixed(t *testing.T, dir string, images Images) *Report {
	t.Helper()
	report := judge(t, dir, Config{})
	if err := report.Resolve(t.Context(), images, noActions(t), nil); err != nil {
		t.Fatal(err)
	}
	changes, err := report.Changes()
	if err != nil {
		t.Fatal(err)
	}
	for i := range changes {
		if err := changes[i].Apply(); err != nil {
			t.Fatal(err)
		}
	}
	return report
}

func TestWhatAFixMadeMootIsNotFoundAnyMore(t *testing.T) {
	dir := write(t, map[string]string{"compose.yaml": "services:\n  a: {image: a.example.com/a:1}\n  b: {image: 'a.example.com/b:${V}'}\n  c: {image: 'a.example.com/b:${V:-1.0.0}'}\n"})
	report := fixed(t, dir, answers(func() (string, error) { return someDigest, nil }))
	report = report.Took(judge(t, dir, Config{}))
	if got, want := lines(dir, report), []string{"compose.yaml:3:14 image-variable", "compose.yaml:4:14 image-digest-missing"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if len(report.Findings) != 3 || !report.Findings[0].Fix.Applied || report.Findings[2].Unfixed == "" {
		t.Errorf("what was fixed, or why else not, is lost: %+v", report.Findings)
	}
}

func newTestRegistry(t *testing.T, cfg RegistryConfig) *Registry {
	t.Helper()
	if cfg.DockerConfig == "" {
		cfg.DockerConfig = filepath.Join(t.TempDir(), "config.json")
	}
	r, err := NewRegistry(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFixAppendsTheDigestsOfARealRegistryAndChangesNothingElse(t *testing.T) {
	address := peertest.Registry(t, t.TempDir(), "")
	one, two := pushed(t, address, "team/one", "1.0.0", "edge"), pushed(t, address, "two", "latest")
	files := map[string]string{
		"pod.yaml":     "# Grüße\r\napiVersion: v1\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - image:   \"R/team/one:1.0.0\"   # stays\r\n  - {name: ä, image: 'R/two'}\r\n  - image: R/team/one:9.9.9\r\n",
		"Dockerfile":   "ARG V=1.0.0\nFROM --platform=$BUILDPLATFORM R/team/one:edge AS x\nFROM R/team/one:${V}\nCOPY --from=R/two / /\n",
		"compose.yaml": "services:\n  a: &a {image: R/team/one:1.0.0}\n  b: *a\n  c:\n    # agentd-audit: ignore image-tag-missing, pull-policy-stale on purpose\n    image: R/two\n",
		".github/workflows/x.yml": "jobs:\n  a:\n    steps:\n    - uses: docker://R/team/one:1.0.0\n" +
			"    - run: docker pull R/two\n",
		"run.sh": "# agentd-audit: tools docker\ndocker pull R/team/one:1.0.0 # x\ndocker run --rm \"R/two\"\ndocker pull 'R/team/one:1.0.0'\ndocker pull R/\"team/one:edge\"\n",
	}
	want := map[string]string{
		"pod.yaml":                strings.NewReplacer("one:1.0.0", "one:1.0.0@"+one, "R/two", "R/two:latest@"+two).Replace(files["pod.yaml"]),
		"Dockerfile":              strings.NewReplacer("one:edge", "one:edge@"+one, "R/two", "R/two:latest@"+two).Replace(files["Dockerfile"]),
		"compose.yaml":            strings.ReplaceAll(files["compose.yaml"], "one:1.0.0", "one:1.0.0@"+one),
		".github/workflows/x.yml": strings.ReplaceAll(files[".github/workflows/x.yml"], "one:1.0.0", "one:1.0.0@"+one),
		"run.sh":                  strings.NewReplacer("one:1.0.0", "one:1.0.0@"+one, "R/two", "R/two:latest@"+two).Replace(files["run.sh"]),
	}
	for name := range files {
		files[name] = strings.ReplaceAll(files[name], "R/", address+"/")
	}
	dir := write(t, files)
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil { //nolint:gosec // its mode is to stay
		t.Fatal(err)
	}
	// What a crash of an earlier fix left.
	if err := os.WriteFile(filepath.Join(dir, ".pod.yaml.agentd-audit"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	report := fixed(t, dir, newTestRegistry(t, RegistryConfig{}))
	for name := range files {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if w := strings.ReplaceAll(want[name], "R/", address+"/"); string(got) != w {
			t.Errorf("%s is\n%q\nwant\n%q", name, got, w)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("run.sh has another mode: %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".pod.yaml.agentd-audit")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a draft is left: %v", err)
	}
	if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return strings.Contains(f.Unfixed, "has no tag 9.9.9") }) {
		t.Error("it is not told that an image does not exist")
	}
	// A second run finds what is left alone, and changes nothing.
	again := fixed(t, dir, newTestRegistry(t, RegistryConfig{}))
	left := []string{".github/workflows/x.yml:5:12 image-tag-missing", "Dockerfile:3:6 image-digest-missing", "pod.yaml:8:12 image-digest-missing", "run.sh:5:13 image-tag-floating"}
	if got := lines(dir, again); !slices.Equal(got, left) {
		t.Errorf("after the fix is found %q, want %q", got, left)
	}
	for _, f := range again.Findings {
		if f.Open() && f.Unfixed == "" {
			t.Errorf("it is not told why %s:%d was not fixed", f.Path, f.Line)
		}
	}
}

func TestFixReachesARegistryWithATLSOfItsOwn(t *testing.T) {
	ca := certtest.New(t, "ca")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ca.Issue(t, "registry")
	data := t.TempDir()
	plain := peertest.Registry(t, data, "")
	digest := pushed(t, plain, "a", "1.0.0")
	address := peertest.Registry(t, data, fmt.Sprintf("  tls:\n    certificate: %q\n    key: %q\n", file("cert.pem", cert), file("key.pem", key)))
	if got, err := newTestRegistry(t, RegistryConfig{CAFile: file("ca.pem", ca.PEM())}).Digest(t.Context(), address, "a", "1.0.0"); err != nil || got != digest {
		t.Errorf("resolved %q, %v; want %s", got, err, digest)
	}
	other := certtest.New(t, "other")
	_, err := newTestRegistry(t, RegistryConfig{CAFile: file("other.pem", other.PEM()), Timeout: 5 * time.Second}).Digest(t.Context(), address, "a", "1.0.0")
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a registry of another authority is believed: %v", err)
	}
}

func TestWhatAHostileRegistryAnswersIsNotWrittenIntoFiles(t *testing.T) {
	t.Parallel()
	head := func(digest string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Docker-Content-Digest", digest)
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"digest with more behind it": head(someDigest + "\"\n  command: [evil]"),
		"digest that is none":        head("sha256:evil"),
		"no digest":                  head(""),
		"digest of another kind":     head("md5:d41d8cd98f00b204e9800998ecf8427e"),
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		},
		"always busy": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"credentials": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"redirect without end": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(answer)
			t.Cleanup(server.Close)
			content := "FROM " + strings.TrimPrefix(server.URL, "http://") + "/a:1.0.0\n"
			dir := write(t, map[string]string{"Dockerfile": content})
			report := fixed(t, dir, newTestRegistry(t, RegistryConfig{Timeout: 300 * time.Millisecond}))
			got, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			if err != nil || string(got) != content {
				t.Errorf("the file is %q, %v", got, err)
			}
			if len(report.Findings) != 1 || report.Findings[0].Unfixed == "" || !report.Findings[0].Open() {
				t.Errorf("it is not told: %+v", report.Findings)
			}
		})
	}
}

// answers are Images for tests of what is done with an answer.
type answers func() (string, error)

func (a answers) Digest(context.Context, string, string, string) (string, error) { return a() }

func TestWhyAFixIsNotMadeIsToldOfEachCase(t *testing.T) {
	digest := answers(func() (string, error) { return someDigest, nil })
	for name, c := range map[string]struct{ file, content, why string }{
		"variables":        {"compose.yaml", "services: {a: {image: 'a:${V:-1.0.0}', pull_policy: always}}\n", "put together from variables"},
		"registry unknown": {"compose.yaml", "services: {a: {image: '${R}/a:edge', pull_policy: always}}\n", "a variable says where it is"},
		"field of its own": {"values.yaml", "a: {repository: a, tag: 1.0.0}\n", "a field of its own"},
		"kustomization":    {"kustomization.yaml", "images: [{name: a, newTag: 1.0.0}]\n", "a field of its own"},
		"script in YAML":   {"action.yml", "steps: [{run: docker pull a:1.0.0}]\n", "a script inside of YAML"},
		"word in parts":    {"a.sh", "# agentd-audit: tools docker\ndocker pull a:\"1.0.0\"\n", "in parts"},
		"several lines":    {"Dockerfile", "FROM \\\n a:1.0.0\n", "goes over several lines"},
		"escapes":          {"compose.yaml", "services: {a: {image: \"a\\x3a1.0.0\", pull_policy: always}}\n", "with escapes"},
		"lines of YAML":    {"compose.yaml", "#\u2028\nservices: {a: {image: 'a:1.0.0', pull_policy: always}}\n", "only YAML knows"},
		"include":          {".gitlab-ci.yml", "include: [{project: a, ref: main}]\n", "only actions of GitHub"},
		"no revision":      {"action.yml", "steps: [{uses: a/b}]\n", "names no revision"},
		"no room":          {"action.yml", "steps: [{uses: a/b@v1}, {uses: a/b@v2}]\n", "no room"},
		"anchor":           {"compose.yaml", "services: {a: {image: &a a:1.0.0, pull_policy: always}}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := fixed(t, write(t, map[string]string{c.file: c.content}), digest).Findings[0]
			if !strings.Contains(f.Unfixed, c.why) || (c.why == "") == f.Open() {
				t.Errorf("the reason is %q, want %q", f.Unfixed, c.why)
			}
		})
	}
}

func TestAFileThatChangedMeanwhileIsLeftAloneAndTheOthersAreFixed(t *testing.T) {
	dir := write(t, map[string]string{"Dockerfile": "FROM a.example.com/a:1.0.0\n", "b/Dockerfile": "FROM a.example.com/a:1.0.0\n"})
	report := judge(t, dir, Config{})
	path := filepath.Join(dir, "Dockerfile")
	changed := []byte("FROM scratch\nFROM a.example.com/a:1.0.0\n")
	if err := report.Resolve(t.Context(), answers(func() (string, error) { return someDigest, os.WriteFile(path, changed, 0o600) }), nil, nil); err != nil {
		t.Fatal(err)
	}
	changes, err := report.Changes()
	if err == nil || !strings.Contains(err.Error(), "not as it was read") {
		t.Errorf("error %v", err)
	}
	if len(changes) != 1 || !strings.HasSuffix(changes[0].Path, "b/Dockerfile") {
		t.Errorf("changes %+v, want that of b/Dockerfile alone", changes)
	}
	if f := report.Findings[0]; f.Fix != nil || !strings.Contains(f.Unfixed, "not as it was read") {
		t.Errorf("it is not told why the file was not fixed: %+v", f)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, changed) {
		t.Errorf("the file is %q, %v", got, err)
	}
}

func TestEachImageIsAskedForOnce(t *testing.T) {
	dir := write(t, map[string]string{"Dockerfile": strings.Repeat("FROM a.example.com/a:1.0.0\n", 20), "compose.yaml": "services: {a: {image: 'a.example.com/a:1.0.0'}}\n"})
	report := judge(t, dir, Config{})
	asked, told := 0, 0
	err := report.Resolve(t.Context(), answers(func() (string, error) { asked++; return someDigest, nil }), nil, func(_, of int, _ string) { told += of })
	if err != nil || asked != 1 || told != 1 {
		t.Errorf("asked %d times, told %d times, %v", asked, told, err)
	}
	changes, err := report.Changes()
	if err != nil || len(changes) != 2 || strings.Count(string(changes[0].After)+string(changes[1].After), "@"+someDigest) != 21 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
}
