package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
)

func spoolFiles(t testing.TB, s *site) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.state, "spool", "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestUpgradeUnderLoadDropsNoRequestAndLosesNoRecord(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	first := s.start()
	l := startLoad(t, s)
	l.await(200)
	r := s.upgrade("1.1.0").ok(t)
	for _, step := range []string{"resolved 1.1.0 to 1.1.0@sha256:", "probation", "committed: 1.1.0 runs"} {
		if !strings.Contains(r.stdout, step) {
			t.Errorf("the progress does not show %q:\n%s", step, r.stdout)
		}
	}
	if err := <-first.done; err != nil {
		t.Errorf("the incumbent ended with %v, want 0", err)
	}
	l.await(200)
	l.stop()
	if i := s.mustInfo(); i.Version != "1.1.0" || i.PID == first.cmd.Process.Pid {
		t.Errorf("after the upgrade %+v answers", i)
	}
	if e := s.fleet(); e.Version != "1.1.0" {
		t.Errorf("the registry has %s", e.Version)
	}
	if r := agentd(t, "status", "--state-dir", s.state).ok(t); !strings.Contains(r.stdout, "1.1.0-") || !strings.Contains(r.stdout, "committed") {
		t.Errorf("status says\n%s", r.stdout)
	}
}

func TestBadReleaseRollsBackUnderLoadAndTheNextUpgradeWorks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0", "1.2.0", "1.3.0")
	first := s.start("--probation", "4s")
	l := startLoad(t, s)
	for version, says := range map[string]string{"1.2.0": "fault_unhealthy", "1.3.0": "exit status 2"} {
		r := s.upgrade(version)
		r.fails(t, 1, version, "1.0.0", says)
		if i := s.mustInfo(); i.Version != "1.0.0" || i.PID != first.cmd.Process.Pid || i.State != "running" {
			t.Errorf("after %s rolled back %+v answers", version, i)
		}
		if !strings.Contains(s.current(), "1.0.0-") {
			t.Errorf("after %s rolled back current is %s", version, s.current())
		}
		s.upgrade(version).fails(t, 1, "quarantine")
	}
	l.await(100)
	l.stop()
	if r := agentd(t, "status", "--state-dir", s.state).ok(t); !strings.Contains(r.stdout, "1.2.0 (") || !strings.Contains(r.stdout, "1.3.0 (") {
		t.Errorf("status does not tell of the quarantine:\n%s", r.stdout)
	}
	s.upgrade("1.1.0").ok(t)
}

func TestUpgradeAsJSONKeepsStandardOutputClean(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	s.start()
	r := s.upgrade("1.1.0", "-o", "json").ok(t)
	var st upgrade.Status
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || st.State != upgrade.Committed || st.Running.Version != "1.1.0" {
		t.Errorf("standard output is %s (%v)", r.stdout, err)
	}
	if !strings.Contains(r.stderr, "committed") {
		t.Errorf("no progress on standard error: %s", r.stderr)
	}
}

func TestUpgradeRefusedBeforeTheAgentIsAsked(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	pid := s.start().cmd.Process.Pid
	stranger := filepath.Join(s.dir, "stranger")
	agentd(t, "keys", "generate", "--out", stranger).ok(t)
	unsigned, tampered := copyRepo(t, s.repo), copyRepo(t, s.repo)
	for _, file := range []string{"index.json.minisig", "indexes"} {
		if err := os.RemoveAll(filepath.Join(unsigned, file)); err != nil {
			t.Fatal(err)
		}
	}
	spoil(t, filepath.Join(tampered, "index.json"), `"sequence"`, `"sequencf"`)
	for name, c := range map[string]struct {
		version string
		args    []string
		says    []string
		code    int
	}{
		"latest":                       {"latest", nil, []string{"latest", "such as 1.2.0"}, 2},
		"v1":                           {"v1", nil, []string{`"v1"`, "such as 1.2.0"}, 2},
		"partial version":              {"1.1", nil, []string{`"1.1"`}, 2},
		"leading v":                    {"v1.1.0", nil, []string{"write 1.1.0"}, 2},
		"version not in the index":     {"1.0.5", nil, []string{"1.0.5", "1.1.0"}, 1},
		"key of a stranger":            {"1.1.0", []string{"--trust", filepath.Join(stranger, "release.pub")}, []string{"not trusted", "signed by key"}, 1},
		"key that is missing":          {"1.1.0", []string{"--trust", "none.pub"}, []string{"none.pub"}, 1},
		"unsigned index":               {"1.1.0", []string{"--repo", unsigned}, []string{"not trusted", "not signed"}, 1},
		"tampered index":               {"1.1.0", []string{"--repo", tampered}, []string{"not trusted", "changed after signing"}, 1},
		"repository that is not there": {"1.1.0", []string{"--repo", filepath.Join(s.dir, "none")}, []string{"none"}, 1},
		"repository of something else": {"1.1.0", []string{"--name", "other"}, []string{"other", "agentd", "if agentd is meant, its name (--name)"}, 1},
		"agent that is not there":      {"1.1.0", []string{"--agent", "a9"}, []string{"a9"}, 1},
		"etcd that is not there":       {"1.1.0", []string{"--etcd", "http://127.0.0.1:1", "--timeout", "500ms"}, []string{"http://127.0.0.1:1"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.upgrade(c.version, c.args...).fails(t, c.code, c.says...)
			s.unchanged(t, pid)
			if e := s.fleet(); e.Status != nil && e.Status.Upgrade.OrderID != "" {
				t.Errorf("the agent was asked: %+v", e.Status.Upgrade)
			}
		})
	}
}

// unchanged checks that the process pid serves release 1.0.0, which would
// boot next as well.
func (s *site) unchanged(t *testing.T, pid int) {
	t.Helper()
	if i := s.mustInfo(); i.PID != pid || i.Version != "1.0.0" {
		t.Errorf("now %s with pid %d answers, want 1.0.0 with pid %d", i.Version, i.PID, pid)
	}
	if c := s.current(); !strings.Contains(c, "1.0.0-") {
		t.Errorf("current is %s, want 1.0.0", c)
	}
	slots, err := os.ReadDir(filepath.Join(s.state, "slots"))
	if err != nil || len(slots) != 1 {
		t.Errorf("slots %v (%v), want 1.0.0 alone", slots, err)
	}
}

func TestUpgradeRefusedByTheAgent(t *testing.T) {
	t.Parallel()
	// The operator sees a good repository, the agent a mirror that is not.
	for name, c := range map[string]struct {
		version string
		mirror  func(t *testing.T, dir string)
		args    []string
		says    []string
	}{
		"tampered manifest": {"1.1.0", func(t *testing.T, dir string) {
			each(t, filepath.Join(dir, "manifests", "sha256", "*.json"), func(path string) { spoil(t, path, `"agentd"`, `"agentx"`) })
		}, nil, []string{"digest differs"}},
		"unsigned manifest": {"1.1.0", func(t *testing.T, dir string) {
			each(t, filepath.Join(dir, "manifests", "sha256", "*.minisig"), func(path string) { remove(t, path) })
		}, nil, []string{"not trusted", "not signed"}},
		"tampered blob": {"1.1.0", func(t *testing.T, dir string) {
			each(t, filepath.Join(dir, "blobs", "sha256", "*"), func(path string) { spoil(t, path, "1.1.0", "6.6.6") })
		}, nil, []string{"digest differs"}},
		"truncated blob": {"1.1.0", func(t *testing.T, dir string) {
			each(t, filepath.Join(dir, "blobs", "sha256", "*"), func(path string) {
				if err := os.Truncate(path, 1000); err != nil {
					t.Fatal(err)
				}
			})
		}, nil, nil},
		"missing blob": {"1.1.0", func(t *testing.T, dir string) {
			each(t, filepath.Join(dir, "blobs", "sha256", "*"), func(path string) { remove(t, path) })
		}, nil, []string{"not found"}},
		"tampered index": {"1.1.0", func(t *testing.T, dir string) {
			spoil(t, filepath.Join(dir, "index.json"), `"sequence"`, `"sequencf"`)
		}, nil, []string{"not trusted"}},
		"downgrade":                {"0.9.0", nil, nil, []string{"downgrade", "1.0.0", "0.9.0"}},
		"another version expected": {"1.1.0", nil, []string{"--expect", "0.8.0"}, []string{"0.8.0", "1.0.0"}},
		"requirement not met":      {"1.4.0", nil, nil, []string{">=1.1.0", "1.0.0"}},
		"another major version":    {"2.0.0", nil, nil, []string{"2.0.0", "(run --allow-major)"}},
		"pre-release":              {"1.5.0-rc.1", nil, nil, []string{"(run --allow-prerelease)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.release("1.0.0", "1.1.0")
			// None of these is downloaded, so any bytes will do.
			for version, requires := range map[string]string{"0.9.0": "", "1.4.0": ">=1.1.0", "2.0.0": "", "1.5.0-rc.1": ""} {
				agentd(t, "release", "build", "--plain", "--key", s.key, "--repo", s.repo, "--version", version, "--requires", requires,
					"--platform", "linux/amd64", writeFile(t, "not downloaded "+version)).ok(t)
			}
			mirror := copyRepo(t, s.repo)
			if c.mirror != nil {
				c.mirror(t, mirror)
			}
			pid := s.start("--repo", mirror).cmd.Process.Pid
			r := s.upgrade(c.version, c.args...)
			r.fails(t, 1, append(c.says, c.version, "failed")...)
			s.unchanged(t, pid)
		})
	}
}

func TestAgentWithoutRepositoryRefusesUpgrades(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	pid := s.start("--repo", "", "--trust", "").cmd.Process.Pid
	s.upgrade("1.1.0").fails(t, 1, "1.1.0", "release source")
	s.unchanged(t, pid)
}

func copyRepo(t testing.TB, repo string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	if err := os.CopyFS(dir, os.DirFS(repo)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spoil replaces text in a file by other text of the same length.
func spoil(t testing.TB, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func each(t testing.TB, pattern string, f func(path string)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("nothing matches %s (%v)", pattern, err)
	}
	for _, path := range paths {
		f(path)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
