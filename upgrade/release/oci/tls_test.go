package oci

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/peertest"
)

// replace writes a file by a rename, as whatever renews certificates does.
func replace(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// startTLS runs the real registry with a certificate of ca, which demands
// client certificates of clients.
func startTLS(t *testing.T, ca, clients *certtest.Authority) (location string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := ca.Issue(t, "registry")
	return schemeRegistry + peertest.Registry(t, t.TempDir(), fmt.Sprintf("  tls:\n    certificate: %q\n    key: %q\n    clientcas: [%q]\n",
		replace(t, filepath.Join(dir, "cert"), cert), replace(t, filepath.Join(dir, "key"), key), replace(t, filepath.Join(dir, "clients"), clients.PEM()))) + "/team/agentd"
}

func TestRegistryWithATLSOfItsOwnIsPushedToAndReadWithFilesThatAreReplaced(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.0.0")
	ca, clients, stranger := certtest.New(t, "ca"), certtest.New(t, "clients"), certtest.New(t, "stranger")
	location, dir := startTLS(t, ca, clients), t.TempDir()
	install := func(by *certtest.Authority, name string) {
		cert, key := by.Issue(t, name)
		replace(t, filepath.Join(dir, "cert"), cert)
		replace(t, filepath.Join(dir, "key"), key)
	}
	install(clients, "builder")
	cfg := Config{Location: location, Attempts: 1, DockerConfig: filepath.Join(dir, "none.json"),
		CAFile:   replace(t, filepath.Join(dir, "ca"), stranger.PEM()),
		CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"),
	}
	// One source, made once: what it reads of the files changes under it.
	src := source(t, cfg)
	if _, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: cfg}); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("push to a registry of an authority that is not in the file: %v", err)
	}
	replace(t, cfg.CAFile, append(stranger.PEM(), ca.PEM()...))
	if pushed := f.push(PushConfig{Target: cfg}); pushed.Sequence != 1 || pushed.Sent == 0 {
		t.Errorf("pushed %+v", pushed)
	}
	for _, name := range []string{"builder", "host"} {
		install(clients, name)
		if got, err := f.fetch(src, pin); err != nil || string(got) != string(content("1.0.0")) {
			t.Errorf("as %s: %d bytes, %v", name, len(got), err)
		}
	}
	install(stranger, "host")
	if _, err := f.fetch(src, pin); err == nil {
		t.Error("a client certificate of another authority was taken")
	}
	cfg.CertFile, cfg.KeyFile = "", ""
	if _, err := f.fetch(source(t, cfg), pin); err == nil {
		t.Error("the registry asked for no client certificate: the test proves nothing")
	}
}

func TestTLSFilesThatProtectNothingAreRefused(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.New(t, "ca")
	cert, key := ca.Issue(t, "host")
	caFile, certFile := replace(t, filepath.Join(dir, "ca"), ca.PEM()), replace(t, filepath.Join(dir, "cert"), cert)
	keyFile := replace(t, filepath.Join(dir, "key"), key)
	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  Config
		says string
	}{
		"layout":                    {Config{Location: schemeLayout + dir, CAFile: caFile}, "(--repo-ca, --repo-cert, --repo-key) is for an oci:// registry"},
		"without TLS":               {Config{Location: "oci+http://registry.example.com/agentd", CAFile: caFile}, "are for https"},
		"no file":                   {Config{Location: "oci://registry.example.com/agentd", CAFile: filepath.Join(dir, "none")}, "none"},
		"certificate without a key": {Config{Location: "oci://registry.example.com/agentd", CertFile: certFile}, "belong together"},
		"key that others can read":  {Config{Location: "oci://registry.example.com/agentd", CertFile: certFile, KeyFile: keyFile}, "chmod 600"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, tt.says)
		}
	}
}
