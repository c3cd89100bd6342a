package oci

import (
	"os"
	"os/exec"
	"path/filepath"
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
		{"registry", func(t *testing.T) string {
			return schemeRegistry + peertest.Registry(t, t.TempDir(), "") + "/team/agentd"
		}},
		{"registry with referrers", func(t *testing.T) string { return schemeRegistry + startReferrers(t) + "/team/agentd" }},
	}
}

// startReferrers runs go-containerregistry's registry.
func startReferrers(t *testing.T) string {
	t.Helper()
	return peertest.Serve(t, exec.CommandContext(t.Context(), peertest.Find(t, "ociregistry", "v0.22.1")))
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
