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

// TestCommandsOfTheRolloutsPageWork as they are printed: an operator who follows
// them sees each strategy through with real agents.
func TestCommandsOfTheRolloutsPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/rollouts.md")
	if err != nil {
		t.Fatal(err)
	}
	walk, _, _ := strings.Cut(string(page), "# Reference")
	script := shellLines(walk, "run", "run()", "until", "if", "for", "kill", "export")
	script = strings.ReplaceAll(script, "export AGENTD_ETCD=http://127.0.0.1:2379\n", "")
	if strings.Count(script, "agentd rollout ") < 20 {
		t.Fatalf("too few commands were found:\n%s", script)
	}
	s := newSite(t)
	dir, bin := t.TempDir(), t.TempDir()
	for name, version := range map[string]string{filepath.Join(bin, "agentd"): "1.0.0", filepath.Join(dir, "agentd-1.1.0"): "1.1.0", filepath.Join(dir, "agentd-1.3.0"): "1.3.0"} {
		if err := os.Symlink(binary(t, version), name); err != nil {
			t.Fatal(err)
		}
	}
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = printed.Close() }()
	sh := exec.CommandContext(t.Context(), "sh", "-ex")
	sh.Dir, sh.Stdin, sh.Stdout, sh.Stderr = dir, strings.NewReader(script), printed, printed
	sh.Env = append(os.Environ(), "AGENTD_ETCD="+s.etcd.URL(), "PATH="+bin+":"+os.Getenv("PATH"))
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	failed := sh.Run()
	// If a command fails, the agents in the background are left.
	if err := syscall.Kill(-sh.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	out, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		logs := ""
		for _, id := range []string{"a1", "a2", "a3", "a4"} {
			log, _ := os.ReadFile(filepath.Join(dir, id+".log"))
			logs += "\n" + id + " says\n" + string(log)
		}
		t.Fatalf("%v\n%s%s", failed, out, logs)
	}
	for _, want := range []string{"is completed", "found it reverted", "the first one", "exit status 2", "is frozen", "network works until six", "is reverted"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in what they print:\n%s", want, out)
		}
	}
}
