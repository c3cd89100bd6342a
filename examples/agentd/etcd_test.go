package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startEtcd runs agentd etcd and returns its address and a function that
// ends it and returns its exit code.
func startEtcd(t *testing.T, dir string) (url string, stop func() int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t, "1.0.0"), "etcd", "--data", dir, "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(line), "etcd serves on ")
	if !ok {
		t.Fatalf("agentd etcd prints %q", line)
	}
	return url, func() int {
		t.Helper()
		if err := sendSignal(cmd.Process.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, out); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // told by the code
		return cmd.ProcessState.ExitCode()
	}
}

func TestEtcdCommandKeepsItsDataAndEndsWith0(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	url, stop := startEtcd(t, dir)
	agentd(t, "config", "put", "--etcd", url, "global", writeFile(t, "log: {level: warn}")).ok(t)
	if code := stop(); code != 0 {
		t.Errorf("agentd etcd ended with %d, want 0", code)
	}
	url, stop = startEtcd(t, dir)
	if r := agentd(t, "config", "get", "--etcd", url, "--show-secrets", "global").ok(t); !strings.Contains(r.stdout, "warn") {
		t.Errorf("after a restart the document is %q", r.stdout)
	}
	if code := stop(); code != 0 {
		t.Errorf("agentd etcd ended with %d, want 0", code)
	}
}

func TestEtcdCommandRefuses(t *testing.T) {
	url, stop := startEtcd(t, filepath.Join(t.TempDir(), "etcd"))
	defer stop()
	taken := strings.TrimPrefix(url, "http://")
	agentd(t, "etcd", "--data", t.TempDir(), "--listen", taken).fails(t, 1, taken)
	agentd(t, "etcd", "--data", writeFile(t, ""), "--listen", "127.0.0.1:0").fails(t, 1)
	agentd(t, "etcd", "--data", t.TempDir(), "--listen", "nowhere").fails(t, 1, "nowhere", "127.0.0.1:2379")
}
