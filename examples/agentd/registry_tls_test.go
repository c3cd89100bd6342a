package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/peertest"
)

func TestRegistryWithATLSOfItsOwnIsReachedWithTheRepositoryFlags(t *testing.T) {
	s := newShelf(t, "1.0.0")
	ca := certtest.New(t, "ca")
	file := func(name string, data []byte) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ca.Issue(t, "registry")
	caFile := file("ca.pem", ca.PEM())
	location := "oci://" + peertest.Registry(t, t.TempDir(), fmt.Sprintf("  tls:\n    certificate: %q\n    key: %q\n    clientcas: [%q]\n",
		file("registry.pem", cert), file("registry.key", key), caFile)) + "/agentd"
	cert, key = ca.Issue(t, "operator")
	access := []string{"--repo-ca", caFile, "--repo-cert", file("operator.pem", cert), "--repo-key", file("operator.key", key)}

	push := []string{"release", "push", "--repo", s.repo, location}
	// With TLS 1.3 the registry may have hung up before it is read that it
	// wants a certificate.
	agentd(t, append(push, access[:2]...)...).fails(t, 1, "push", location)
	agentd(t, append(push, access...)...).ok(t)
	read := []string{"--repo", location, "--trust", s.trust}
	for _, command := range []string{"list", "verify"} {
		args := append([]string{"release", command}, read...)
		if r := agentd(t, append(args, access...)...).ok(t); !strings.Contains(r.stdout, "index 1") {
			t.Errorf("%s says %s", command, r.stdout)
		}
	}
	agentd(t, append([]string{"release", "list", "--repo-auth-file", s.trust}, append(read, access...)...)...).fails(t, 2, "--repo-auth-file", "docker login")
	agentd(t, append([]string{"release", "list", "--trust", s.trust, "--repo", "oci-layout:" + s.dir}, access...)...).fails(t, 1, "oci:// registry")

	_, public := cosignKeys(t)
	r := repository{location: location, caFile: caFile, certFile: filepath.Join(s.dir, "none.pem"), keyFile: access[5]}
	if _, err := cosigned(&r, public); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("the cosign requirement reaches the registry without the certificate: %v", err)
	}
}
