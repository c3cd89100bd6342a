package peertest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Registry runs the distribution project's registry, which keeps its blobs
// below dir, until the test ends and returns its address. more is appended to
// the http section of its configuration.
func Registry(tb testing.TB, dir, more string) (address string) {
	tb.Helper()
	program := Find(tb, "registry", "v3.1.2")
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp:\n  addr: 127.0.0.1:0\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text+more), 0o600); err != nil {
		tb.Fatal(err)
	}
	return Serve(tb, exec.CommandContext(tb.Context(), program, "serve", config))
}

// Serve runs a registry until the test ends and returns the address that it
// prints.
func Serve(tb testing.TB, cmd *exec.Cmd) (address string) {
	tb.Helper()
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	drained := make(chan struct{})
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-drained
		_ = r.Close()
	})
	listening := regexp.MustCompile(`(?:listening|serving) on (127\.0\.0\.1:\d+)`)
	lines := bufio.NewScanner(r)
	var seen []string
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, r)
			}()
			return m[1]
		}
		seen = append(seen, lines.Text())
	}
	close(drained)
	tb.Fatalf("%s ended without an address:\n%s", cmd.Path, strings.Join(seen, "\n"))
	return ""
}
