package hosttest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const (
	// mountDir names the environment variable that has the directory for a test in
	// namespaces of its own.
	mountDir = "HOSTTEST_MOUNT_DIR"
	// cannotMount begins the reason of who has found that mounts are not allowed.
	cannotMount = "cannot mount"
)

// Mounting runs the test that calls it again, in a process with a user and a mount
// namespace of its own, where it runs body with an empty directory to mount
// something on: nobody else sees that, and it ends with the process. Where the
// system does not allow such namespaces, or body calls CannotMount, the test is
// skipped.
func Mounting(t *testing.T, body func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv(mountDir); dir != "" {
		body(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || strings.Contains(string(out), cannotMount) {
		t.Skipf("this system allows no such mount in a user namespace: %v %s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// CannotMount skips a test that Mounting runs.
func CannotMount(t *testing.T, err error) {
	t.Helper()
	t.Skipf("%s: %v", cannotMount, err)
}
