package oci

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/certtest"
)

// TestRegistryOfThisHostThatSpeaksTLSIsNamedAsSuch: without files it is spoken
// to without TLS, and answers "400 Bad Request".
func TestRegistryOfThisHostThatSpeaksTLSIsNamedAsSuch(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	stranger := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(stranger, certtest.New(t, "stranger").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	location := schemeRegistry + strings.TrimPrefix(server.URL, "https://") + "/agentd"
	for caFile, says := range map[string]string{
		"":       "for a registry on this host the certificate of its authority (CAFile, --repo-ca)",
		stranger: "add the one that has signed the server's certificate (CAFile, --repo-ca)",
	} {
		cfg := Config{Location: location, CAFile: caFile, DockerConfig: filepath.Join(t.TempDir(), "none.json")}
		_, _, err := source(t, cfg).Open(t.Context(), "index.json", 0)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "given up") {
			t.Errorf("read with CA file %q: %v, want one attempt that says %q", caFile, err, says)
		}
		f := newFixture(t)
		f.publish("1.0.0")
		if _, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: cfg}); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "given up") {
			t.Errorf("push with CA file %q: %v, want one attempt that says %q", caFile, err, says)
		}
	}
}
