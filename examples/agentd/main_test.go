package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/upgrade"
)

// builds holds the executables of this package that the tests run: good
// releases 1.0.0 and 1.1.0, 1.2.0 that turns unhealthy and 1.3.0 that
// crashes.
var builds struct {
	dir string
	err error
}

func TestMain(m *testing.M) {
	flag.Parse()
	builds.dir, builds.err = build()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(builds.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

// build makes the executables as a user would, without the race detector,
// whose memory and time are not what the agent has.
func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "agentd-test-"); err != nil {
		return "", err
	}
	for version, tag := range map[string]string{"1.0.0": "", "1.1.0": "", "1.2.0": "fault_unhealthy", "1.3.0": "fault_crash"} {
		cmd := exec.Command("go", "build", "-race=false", "-tags", tag, "-ldflags", "-s -w -X main.version="+version, "-o", filepath.Join(dir, "agentd-"+version), ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	return dir, nil
}

func TestSupervisorsOwnVerdictIsPrintedAndThatOfItsProcessIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		err  upgrade.ExitError
		want string
	}{
		{upgrade.ExitError{Code: 1, Reason: "gone"}, "agentd: the agent ended: gone\n"},
		{upgrade.ExitError{Code: 137, Reason: "killed"}, "agentd: the agent ended: killed\n"},
		{upgrade.ExitError{Code: 2, Exited: true, Reason: "exit code 2"}, ""},
	} {
		var out strings.Builder
		if code := report(&out, &c.err); code != c.err.Code {
			t.Errorf("%+v: code %d", c.err, code)
		}
		if got := out.String(); got != c.want {
			t.Errorf("%+v: printed %q, want %q", c.err, got, c.want)
		}
	}
}

// binary is the executable of a version.
func binary(t testing.TB, version string) string {
	t.Helper()
	if builds.err != nil {
		t.Fatal(builds.err)
	}
	return filepath.Join(builds.dir, "agentd-"+version)
}
