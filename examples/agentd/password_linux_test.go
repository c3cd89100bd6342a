package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal can be had here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

// typed runs agentd on a terminal and types an answer after each prompt.
func typed(t *testing.T, answers []string, args ...string) (code int, stderr string) {
	t.Helper()
	master, slave := terminal(t)
	var out waittest.Log
	cmd := exec.CommandContext(t.Context(), binary(t, "1.0.0"), args...)
	cmd.Stdin, cmd.Stderr = slave, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i, answer := range answers {
		waittest.Until(t, fmt.Sprintf("prompt %d", i+1), func() bool { return strings.Count(out.String(), ": ") > i })
		if _, err := master.WriteString(answer + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // the exit code tells
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestTerminalIsAskedForThePasswordAndDoesNotShowIt(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	generate := []string{"keys", "generate", "--encrypt", "--out", v.dir, "--as"}
	if code, stderr := typed(t, []string{"horse", "hoarse"}, append(generate, "typo")...); code != 1 || !strings.Contains(stderr, "differ") {
		t.Errorf("two different passwords: exit code %d\n%s", code, stderr)
	}
	if _, err := os.Stat(v.file("typo.key")); err == nil {
		t.Error("a key was written under a password that was mistyped")
	}
	// A key that costs nothing to try, and that no password opens.
	v.write("sealed.key", []byte("untrusted comment: minisign encrypted secret key\n"+sealedKey+"\n"))
	sign := []string{"keys", "sign", "--keyring", v.keyring, "--key", v.file("sealed.key")}
	if code, stderr := typed(t, []string{"horse"}, sign...); code != 1 || !strings.Contains(stderr, "wrong password") || strings.Contains(stderr, "horse") {
		t.Errorf("wrong password: exit code %d\n%s", code, stderr)
	}
}

// sealedKey has scrypt's lowest cost and zeros where the key would be.
const sealedKey = "RWRTY0IyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
