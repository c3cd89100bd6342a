package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fuzzed are names of files, one of each kind.
func fuzzed() []string {
	return []string{
		"pod.yaml", "compose.yaml", "Dockerfile", ".github/workflows/x.yml", ".gitlab-ci.yml", ".circleci/config.yml",
		".drone.yml", "a.sh", "run", "pod.json", "values.yaml", "package.json", "go.mod", "Cargo.toml", "pyproject.toml",
		"requirements.txt", "Pipfile", "Gemfile", "composer.json", "Chart.yaml",
	}
}

// FuzzJudge gives any bytes to any judge, and as every lock file as well. What
// is found must be in the file, and what would be fixed must be an image there.
func FuzzJudge(f *testing.F) {
	for _, s := range slices.Concat(imageScenarios(), pipelineScenarios(), scriptScenarios(), lockScenarios(), suppressionScenarios()) {
		for name, content := range s.files {
			if kind := slices.Index(fuzzed(), name); kind >= 0 {
				f.Add(kind, content, "")
			} else {
				f.Add(slices.Index(fuzzed(), "package.json"), `{"dependencies":{"a":"1"}}`, content)
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind int, content, lock string) {
		if kind < 0 || kind >= len(fuzzed()) {
			return
		}
		name := fuzzed()[kind]
		files := map[string]string{name: content}
		if lock != "" {
			for _, l := range []string{"package-lock.json", "go.sum", "Cargo.lock", "uv.lock", "Pipfile.lock", "Gemfile.lock", "composer.lock", "Chart.lock"} {
				files[l] = lock
			}
		}
		dir := write(t, files)
		report := judge(t, filepath.Join(dir, filepath.FromSlash(name)), Config{})
		raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range report.Findings {
			if finding.Line < 0 || finding.Line > strings.Count(string(raw), "\n")+2 || finding.Column < 0 {
				t.Errorf("%s stands at line %d, column %d of %q", finding.Rule, finding.Line, finding.Column, content)
			}
			if e := finding.edit; e != nil {
				if !strings.HasPrefix(string(raw[e.offset:]), e.old) {
					t.Errorf("%q is to be replaced at %d of %q", e.old, e.offset, content)
				}
				if _, err := parseReference(e.old + "@" + someDigest); err != nil && e.ref.tag != "" {
					t.Errorf("the fix of %q would be no image: %v", e.old, err)
				}
			}
		}
	})
}

// FuzzReference: what is read as a reference and written again is the same
// reference.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:1", "localhost:5000/x", "r.example.com/a/b:v1.2.3@" + someDigest, "a:b:c", "@", "/", "index.docker.io/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseReference(s)
		if err != nil {
			return
		}
		again, err := parseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, which is written %q and read %+v, %v", s, r, r.String(), again, err)
		}
		if moving(r.tag) == "" && r.tag != "" && !strings.ContainsAny(r.tag, "0123456789") {
			t.Errorf("tag %q of no number is taken to be exact", r.tag)
		}
	})
}
