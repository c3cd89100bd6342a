package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCommandsOfThePluginsPageWork as they are printed: an author who follows
// them gets a signed plugin that does tasks.
func TestCommandsOfThePluginsPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	clone, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	dir := t.TempDir()
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t, "1.0.0"), filepath.Join(bin, "agentd")); err != nil {
		t.Fatal(err)
	}
	script := shellLines(string(page), "mkdir", "go", "if", "kill")
	if strings.Count(script, "agentd ") < 20 {
		t.Fatalf("too few commands were found:\n%s", script)
	}
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = printed.Close() }()
	sh := exec.CommandContext(t.Context(), "sh", "-ex")
	sh.Dir, sh.Stdin, sh.Stdout, sh.Stderr = dir, strings.NewReader(script), printed, printed
	sh.Env = append(os.Environ(), "AGENTD_ETCD="+s.etcd.URL(), "PERENNIAL="+clone, "PATH="+bin+":"+os.Getenv("PATH"), "GOWORK=", "GOFLAGS=-buildvcs=false")
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	failed := sh.Run()
	// If a command fails, the agent in the background is left.
	if err := syscall.Kill(-sh.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	out, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "a1.log"))
		t.Fatalf("%v\n%s\nthe agent says\n%s", failed, out, log)
	}
	for _, want := range []string{"Hello, world!", "Hello, new world!", "Hello, again!", "greets too loudly", `want {"name"`, "signed by key"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in what they print:\n%s", want, out)
		}
	}
}
