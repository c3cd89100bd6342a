package upgrade

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestLockSignedBeforeTheSupervisorStartedNamesNobody(t *testing.T) {
	t.Parallel()
	s := prepareSupervised(t, 100*time.Millisecond)
	if err := os.MkdirAll(s.env.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	// As if the previous container's process had had any pid at all: an agent
	// that ends well before it signs has given the host to nobody.
	if err := os.WriteFile(filepath.Join(s.env.StateDir, lockName), []byte("4000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(makeBinary(t, build{Version: "1.0.0", Fault: "leaves"}))
	s.endsWith(0)
}

func TestLockSignedByThePIDThatTheAgentGetsAgainDoesNotKeepTheSupervisorsOldRelease(t *testing.T) {
	dir, pid := t.TempDir(), os.Getpid()
	path := filepath.Join(dir, lockName)
	if err := os.WriteFile(path, []byte(strconv.Itoa(pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// As launch leaves it; the child has the supervisor's executable still.
	s := &supervisor{SuperviseConfig: SuperviseConfig{StateDir: dir}, serving: pid, stale: info.ModTime()}
	if s.self, err = os.Stat("/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	if s.settle() {
		t.Error("the supervisor is settled before the new process has signed")
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if !s.settle() {
		t.Error("the supervisor is not settled once the new process has signed")
	}
}

func TestKeeperWithoutItsSupervisorNeverBecomesAnAgent(t *testing.T) {
	t.Parallel()
	s := prepareSupervised(t, 100*time.Millisecond)
	s.command = func(binary string) *exec.Cmd {
		return exec.Command("env", keepsVariable+"=4000000", binary) //nolint:gosec // the test's own
	}
	s.run(makeBinary(t, build{Version: "1.0.0"}))
	waittest.Next(t, "the keeper ends", s.done)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(s.logged(), "supervising") {
		t.Errorf("it ended with code %d", code)
	}
}

func TestStoppedKeeperIsEndedByTheKernel(t *testing.T) {
	t.Parallel()
	s := prepareSupervised(t, 100*time.Millisecond)
	s.run(makeBinary(t, build{Version: "1.0.0", Fault: "keeper stops"}))
	waittest.Next(t, "the stopped process is ended", s.done)
	if status := s.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, want killed", s.cmd.ProcessState)
	}
}

func TestKeeperThatDoesNotAnswerIsNotWaitedForEndlessly(t *testing.T) {
	var tells, hears [2]int
	if err := errors.Join(unix.Pipe2(tells[:], unix.O_CLOEXEC), unix.Pipe2(hears[:], unix.O_CLOEXEC)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(unix.Close(tells[1]), unix.Close(hears[0])) }()
	if _, err := unix.Write(tells[1], []byte{byte(unix.SIGHUP)}); err != nil {
		t.Fatal(err)
	}
	// Its end of the pipe stays open.
	kept := keeper{tells: tells[0], hears: hears[1]}.relieve(10 * time.Millisecond)
	if !slices.Equal(kept, []unix.Signal{unix.SIGHUP}) {
		t.Errorf("it returned %v, want what was told", kept)
	}
}

func TestSupervisorWithoutAKeeperLeavesDescriptor0Alone(t *testing.T) {
	before, err := unix.FcntlInt(0, unix.F_GETFD, 0)
	if err != nil {
		t.Skip("there is no descriptor 0 here: ", err)
	}
	keeper{}.survive(false)
	if after, err := unix.FcntlInt(0, unix.F_GETFD, 0); err != nil || after != before {
		t.Errorf("its flags were %d, now %d, %v", before, after, err)
		_, _ = unix.FcntlInt(0, unix.F_SETFD, before)
	}
}
