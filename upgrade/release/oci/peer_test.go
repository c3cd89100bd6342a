package oci

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

	"github.com/perennial-go/perennial/internal/peertest"
)

// place is somewhere that a repository can be pushed to.
type place struct {
	name     string
	location func(t *testing.T) string
}

// places are all kinds of them: a layout, the registry that most run (which
// has no referrers API), and one with that API.
func places() []place {
	return []place{
		{"layout", func(t *testing.T) string { return schemeLayout + filepath.Join(t.TempDir(), "layout") }},
		{"registry", func(t *testing.T) string { return schemeRegistry + startRegistry(t, "") + "/team/agentd" }},
		{"registry with referrers", func(t *testing.T) string { return schemeRegistry + startReferrers(t) + "/team/agentd" }},
	}
}

// startRegistry runs the distribution project's registry and returns its
// address. more is appended to its configuration.
func startRegistry(t *testing.T, more string) string {
	t.Helper()
	return startRegistryIn(t, t.TempDir(), more)
}

func startRegistryIn(t *testing.T, dir, more string) string {
	t.Helper()
	program := peertest.Find(t, "registry", "v3.1.2")
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp:\n  addr: 127.0.0.1:0\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, exec.CommandContext(t.Context(), program, "serve", config))
}

// startReferrers runs go-containerregistry's registry.
func startReferrers(t *testing.T) string {
	t.Helper()
	return start(t, exec.CommandContext(t.Context(), peertest.Find(t, "ociregistry", "v0.22.1")))
}

// start runs a registry until the test ends and returns the address that it
// prints.
func start(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-drained
		_ = r.Close()
	})
	address := regexp.MustCompile(`(?:listening|serving) on (127\.0\.0\.1:\d+)`)
	lines := bufio.NewScanner(r)
	var seen []string
	for lines.Scan() {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, r)
			}()
			return m[1]
		}
		seen = append(seen, lines.Text())
	}
	close(drained)
	t.Fatalf("%s ended without an address:\n%s", cmd.Path, strings.Join(seen, "\n"))
	return ""
}

// cosignKeys makes a key pair with the real cosign.
func cosignKeys(t *testing.T) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	runCosign(t, dir, "generate-key-pair").ok(t)
	return filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
}

const cosignPassword = "correct horse"

type outcome struct {
	err error
	out string
}

func (o outcome) ok(t *testing.T) {
	t.Helper()
	if o.err != nil {
		t.Fatalf("%v\n%s", o.err, o.out)
	}
}

func runCosign(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peertest.Find(t, "cosign", "v3.1.3"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+cosignPassword, "HOME="+t.TempDir(), "DOCKER_CONFIG="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return outcome{err, string(out)}
}
