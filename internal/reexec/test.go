package reexec

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/failpoint"
)

// The environment of a process that Test makes.
const (
	envTest       = "PERENNIAL_TEST_PROCESS"
	envFailpoints = "PERENNIAL_TEST_FAILPOINTS"
)

// Test returns a command that runs the one test called name of this binary,
// which calls Begin first: it is no test but the main function of processes
// that others start and kill. failpoints, as failpoint.Arm has them, are armed
// there, and env is added to the environment. The process ends with tb at the
// latest, and what it leaves in its temporary directory goes with tb's.
func Test(tb testing.TB, name, failpoints string, env ...string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), self, "-test.run=^"+name+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+tb.TempDir(), envTest+"="+name, envFailpoints+"="+failpoints)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// Begin skips what Test has not started, and arms the failpoints else.
func Begin(tb testing.TB) {
	tb.Helper()
	if os.Getenv(envTest) != tb.Name() {
		tb.Skip("started by other tests only")
	}
	if err := failpoint.Arm(os.Getenv(envFailpoints)); err != nil {
		tb.Fatal(err)
	}
}

// Killed reports whether err, of a command's Wait or Run, says that SIGKILL
// ended it, as a failpoint does.
func Killed(err error) bool {
	ended, ok := errors.AsType[*exec.ExitError](err)
	return ok && strings.Contains(ended.String(), "killed")
}
