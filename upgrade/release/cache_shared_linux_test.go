package release

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
)

// The environment of an agent process; set by agentProcess only.
const (
	envCacheDir    = "UPGRADE_TEST_CACHE_DIR"
	envCacheSource = "UPGRADE_TEST_CACHE_SOURCE"
)

// TestAgentWithCacheProcess is no test but the main function of agents that
// share a cache.
func TestAgentWithCacheProcess(t *testing.T) {
	reexec.Begin(t)
	f := newFixture(t)
	f.dir = os.Getenv(envCacheSource)
	f.clock = f.index().Issued
	cache, err := NewCache(CacheConfig{Dir: os.Getenv(envCacheDir), Source: f.source(), Pull: PullIfNotPresent})
	if err != nil {
		t.Fatal(err)
	}
	path, err := f.install(t.Context(), f.clientOf(cache), "1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.read(path), content("1.1.0")) {
		t.Error("it installed something else")
	}
}

func agentProcess(t *testing.T, f *cacheFixture, failpoints string) (cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	cmd = reexec.Test(t, "TestAgentWithCacheProcess", failpoints, envCacheDir+"="+f.cache, envCacheSource+"="+f.dir)
	output = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

func TestAgentKilledWhileItFillsTheCacheLeavesNothingInTheWay(t *testing.T) {
	for _, point := range []string{"cache.keep", "cache.part", "cache.commit"} {
		t.Run(point, func(t *testing.T) {
			f := newCacheFixture(t)
			cmd, output := agentProcess(t, f, point+"=kill")
			if err := cmd.Run(); !reexec.Killed(err) {
				t.Fatalf("the agent was not killed: %v\n%s", err, output)
			}
			f.mustInstall(PullIfNotPresent, "1.1.0")
			f.source.take()
			f.mustInstall(PullNever, "1.1.0")
			entries, err := os.ReadDir(filepath.Join(f.cache, contentDir))
			if err != nil || len(entries) != 2 { // manifest and binary
				t.Errorf("in the cache: %v, %v", entries, err)
			}
		})
	}
}

func TestAgentsThatShareACacheDisturbOneAnotherInNothing(t *testing.T) {
	f := newCacheFixture(t)
	var agents []*exec.Cmd
	var outputs []*bytes.Buffer
	for range 6 {
		cmd, output := agentProcess(t, f, "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		agents, outputs = append(agents, cmd), append(outputs, output)
	}
	for i, cmd := range agents {
		if err := cmd.Wait(); err != nil {
			t.Errorf("agent %d: %v\n%s", i, err, outputs[i])
		}
	}
	f.mustInstall(PullNever, "1.1.0")
}

func TestAgentsOfOneUserShareOneFile(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	entry, err := os.Stat(f.blob("1.1.0"))
	if err != nil || entry.Mode() != entryMode {
		t.Fatalf("entry %v, %v: others must be able to read and execute it, and nobody to write", entry.Mode(), err)
	}
	for range 2 {
		info, err := os.Stat(f.mustInstall(PullIfNotPresent, "1.1.0"))
		if err != nil || !os.SameFile(entry, info) {
			t.Errorf("installed %v, %v: not the cache's file", info, err)
		}
	}
}

// asRoot skips where files cannot be given to other users.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a file of another user can be made by root only: run the tests as root for this one")
	}
}

func TestCachePoisonedByAnotherUserChangesNothingThatIsExecuted(t *testing.T) {
	asRoot(t)
	for name, tt := range map[string]struct {
		poison func(f *cacheFixture, entry string) error
		linked bool
	}{
		"entry of another user": {func(_ *cacheFixture, entry string) error { return os.Chown(entry, 4321, 4321) }, false},
		"false entry of another user": {func(f *cacheFixture, entry string) error {
			f.overwrite(entry, content("6.6.6"))
			return os.Chown(entry, 4321, 4321)
		}, false},
		"entry that a group can write to": {func(_ *cacheFixture, entry string) error { return os.Chmod(entry, 0o575) }, false},
		"entry that all can write to":     {func(_ *cacheFixture, entry string) error { return os.Chmod(entry, 0o777) }, false},
		"own entry":                       {func(*cacheFixture, string) error { return nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			f.mustInstall(PullAlways, "1.1.0")
			entry := f.blob("1.1.0")
			if err := tt.poison(f, entry); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(entry)
			if err != nil {
				t.Fatal(err)
			}
			path := f.mustInstall(PullIfNotPresent, "1.1.0")
			info, err := os.Stat(path)
			if err != nil || os.SameFile(before, info) != tt.linked {
				t.Fatalf("what is executed is the file of the cache: %v, %v", !tt.linked, err)
			}
			if tt.linked {
				return
			}
			// Who owns the entry changes it afterwards.
			if err := os.WriteFile(entry, content("6.6.6"), 0o600); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.read(path), content("1.1.0")) {
				t.Error("what is executed was changed")
			}
		})
	}
}

func TestCacheFilledByOneUserServesAnother(t *testing.T) {
	asRoot(t)
	f := newCacheFixture(t)
	shared := t.TempDir()
	f.cache = filepath.Join(shared, "cache")
	// Both users need a way to the test's files.
	for dir := shared; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir := f.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(f.cache, 0o755), os.Chmod(f.cache, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(shared, "agents")
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.write(exe, f.read(own))
	if err := os.Chmod(exe, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, user := range []uint32{4321, 4322} {
		tmp := filepath.Join(shared, "tmp")
		if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700), os.Chown(tmp, int(user), int(user))); err != nil {
			t.Fatal(err)
		}
		cmd, output := agentProcess(t, f, "")
		cmd.Path, cmd.Dir = exe, shared
		cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		if err := cmd.Run(); err != nil {
			t.Fatalf("agent of user %d: %v\n%s", user, err, output)
		}
		// The second user has nothing but the cache.
		f.remove(f.path("blobs"))
		f.remove(f.path("manifests"))
	}
}

func TestInstallIntoAnotherFileSystemReadsTheCache(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	disk := smallDisk(t)
	f.source.take()
	dst := filepath.Join(disk, "agent")
	if _, err := f.host(PullIfNotPresent).Fetch(t.Context(), f.fixture.manifest("1.1.0"), dst, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if asked := f.source.take(); len(asked) > 0 || !bytes.Equal(f.read(dst), content("1.1.0")) {
		t.Errorf("asked for %q", asked)
	}
}

func TestCacheOnAFullDiskFailsNothing(t *testing.T) {
	f := newCacheFixture(t)
	f.cache = filepath.Join(smallDisk(t), "cache")
	f.mustInstall(PullAlways, "1.1.0") // about half of it
	f.mustInstall(PullAlways, "1.0.0")
	if _, err := os.Stat(f.blob("1.0.0")); err == nil {
		t.Error("the disk was not full")
	}
}
