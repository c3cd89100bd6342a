package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// firstRelease is the commit with which the swap came in. Agents that were
// built from it are out there; every later version must take over from them.
const firstRelease = "6685daf209d5248975a0fa82cd2a9197dff2ca3d"

// firstSource unpacks the first release's source from this checkout's
// history. Where that does not reach so far, the test is skipped.
func firstSource(t *testing.T) string {
	t.Helper()
	git := func(args ...string) *exec.Cmd {
		// In a container the checkout may belong to another user.
		return exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", "../.."}, args...)...)
	}
	if out, err := git("cat-file", "-e", firstRelease+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("the first release %s is not in the history of this checkout (%v: %s): run git fetch --unshallow, or git clone instead of an archive", firstRelease, err, out)
	}
	archive := git("archive", "--format=tar", firstRelease)
	archive.Stderr = os.Stderr
	files, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Start(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(untar(files, dir), archive.Wait()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// untar writes the directories and regular files of a tar stream below dir.
func untar(from io.Reader, dir string) error {
	archive := tar.NewReader(from)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, from) // the padding, which git waits to be rid of
			return err
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("the archive holds %q", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
}

// buildFrom builds agentd as version from the checkout in root. It takes the
// flags of the other builds of these tests, with which it shares all compiled
// dependencies: -trimpath would compile them once more.
func buildFrom(t *testing.T, root, version string) string {
	t.Helper()
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agentd-"+version)
	cmd := exec.Command("go", "build", "-race=false", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", path, "./examples/agentd")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v in %s: %v\n%s", cmd, root, err, out)
	}
	return path
}

// publish releases executable as version.
func (s *site) publish(version, executable string) release.Pin {
	s.t.Helper()
	r := agentd(s.t, "release", "build", "--plain", "--key", s.key, "--repo", s.repo, "--version", version, executable).ok(s.t)
	words := strings.Fields(r.stdout)
	pin, err := release.ParsePin(words[len(words)-1])
	if err != nil {
		s.t.Fatalf("%v in %q", err, r.stdout)
	}
	return pin
}

// inspect reads the state directory with today's code.
func (s *site) inspect() upgrade.Report {
	s.t.Helper()
	r, err := upgrade.Inspect(s.state)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func TestAgentOfTheFirstReleaseUpgradesToTodays(t *testing.T) {
	t.Parallel()
	first := firstSource(t)
	s := newSite(t)
	s.executable = buildFrom(t, first, "1.0.0")
	s.release("1.1.0")
	s.publish("1.5.0", buildFrom(t, "../..", "1.5.0"))
	// A release may also go back to the library that it was built with first.
	s.publish("1.6.0", buildFrom(t, first, "1.6.0"))
	p := s.start()
	l := startLoad(t, s)
	l.await(100)
	seen := map[int]bool{p.cmd.Process.Pid: true}
	for i, version := range []string{"1.1.0", "1.5.0", "1.6.0"} {
		s.upgrade(version).ok(t)
		l.await(100)
		if i == 0 {
			if err := <-p.done; err != nil {
				t.Errorf("the first release ended with %v, want 0", err)
			}
		}
		info := s.mustInfo()
		if info.Version != version || seen[info.PID] {
			t.Errorf("%+v answers, want %s in a process of its own", info, version)
		}
		seen[info.PID] = true
		if r := s.inspect(); r.Journal.State != upgrade.Committed || r.Journal.To.Version != version || !strings.HasPrefix(r.Current, version+"-") || len(r.Slots) != i+2 || len(r.Unfinished) > 0 {
			t.Errorf("the state directory holds %+v", r)
		}
		if e := s.fleet(); e.Version != version || e.PID != info.PID {
			t.Errorf("the registry has %s with pid %d", e.Version, e.PID)
		}
	}
	l.stop()
}

func TestTodaysAgentOpensWhatAKilledFirstReleaseLeft(t *testing.T) {
	t.Parallel()
	first := firstSource(t)
	s := newSite(t)
	s.executable = buildFrom(t, first, "1.0.0")
	s.release("1.1.0", "1.3.0")
	p := s.start("--probation", "2m")
	s.upgrade("1.3.0").fails(t, 1, "exit status 2")

	pin := s.publish("1.6.0", buildFrom(t, first, "1.6.0"))
	d, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{s.etcd.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if _, err := d.Order(t.Context(), "a1", upgrade.Request{Pin: pin, Expect: "1.0.0", By: "test"}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "1.6.0 is on probation", func() bool { return s.inspect().Journal.State == upgrade.Probation })
	successor := s.mustInfo().PID
	for _, pid := range []int{p.cmd.Process.Pid, successor} {
		if err := sendSignal(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-p.done; err == nil {
		t.Error("the first release outlived kill -9")
	}
	waittest.Until(t, "the first release is dead", func() bool { return !alive(successor) && !s.inspect().Running })
	if r := s.inspect(); r.Journal.State != upgrade.Probation || len(r.Quarantine) != 1 || !strings.HasPrefix(r.Current, "1.0.0-") {
		t.Fatalf("the first release left %+v", r)
	}

	// Today's executable is installed over it and started, as a package would.
	s.executable = buildFrom(t, "../..", "1.5.0")
	s.start()
	if i := s.mustInfo(); i.Version != "1.5.0" {
		t.Errorf("%+v answers, want 1.5.0", i)
	}
	// It answers before it has adopted itself.
	waittest.Until(t, "current names what was installed", func() bool { return strings.HasPrefix(s.inspect().Current, "1.5.0-") })
	waittest.Until(t, "what was left over is collected", func() bool {
		r := s.inspect()
		left := slices.ContainsFunc(r.Slots, func(s upgrade.Slot) bool { return s.Version == "1.6.0" })
		return !left && len(r.Unfinished) == 0
	})
	r := s.inspect()
	if r.Journal.State != upgrade.RolledBack || !strings.Contains(r.Journal.Reason, "interrupted") || len(r.Unfinished) > 0 {
		t.Errorf("the journal says %s (%s), unfinished %v", r.Journal.State, r.Journal.Reason, r.Unfinished)
	}
	if len(r.Quarantine) != 1 || r.Quarantine[0].Version != "1.3.0" {
		t.Errorf("the quarantine holds %+v", r.Quarantine)
	}
	s.upgrade("1.6.0").ok(t)
	if i := s.mustInfo(); i.Version != "1.6.0" {
		t.Errorf("%+v answers, want 1.6.0", i)
	}
}
