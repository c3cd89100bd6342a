package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/certtest"
)

// TestRefusalsNameTheFlagThatHelps: an operator has flags, and no fields of a
// configuration.
func TestRefusalsNameTheFlagThatHelps(t *testing.T) {
	s := newShelf(t, "1.0.0")
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	ca := filepath.Join(s.dir, "ca.pem")
	if err := os.WriteFile(ca, certtest.New(t, "ca").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(s.dir, "nowhere")
	list := func(repo string, more ...string) []string {
		return append([]string{"release", "list", "--trust", s.trust, "--repo", repo}, more...)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"public key that is to sign a keyring": {[]string{"keys", "sign", "--keyring", v.keyring, "--key", v.file("root-1.pub")}, 1, []string{"root-1.pub holds no private key, but a public one", v.file("root-1.key")}},
		"keyring of release keys":              {[]string{"keys", "list", "--repo", s.repo, "--trust", s.trust}, 1, []string{"--trust-roots"}},
		"repository that is not there":         {[]string{"release", "list", "--repo", nowhere, "--trust-roots", v.file("roots.pub")}, 1, []string{nowhere, "its address right (--repo)"}},
		"number with a leading zero":           {[]string{"release", "build", "--key", filepath.Join(s.dir, "keys", "release.key"), "--repo", s.repo, "--version", "01.2.0", "x"}, 2, []string{"begins with 0: write 1.2.0"}},
		"executable that is not there":         {[]string{"release", "build", "--key", filepath.Join(s.dir, "keys", "release.key"), "--repo", s.repo, "--version", "1.2.0", nowhere}, 1, []string{nowhere + " does not exist"}},
		"scheme that is none":                  {list("ftp://host/x"), 1, []string{"oci://host/repository", "oci-layout:DIR"}},
		"location with a tag":                  {list("oci://host/agentd:latest"), 1, []string{"write oci://host/agentd for the repository"}},
		"authority for plain HTTP":             {list("http://host/x", "--repo-ca", ca), 2, []string{"--repo-ca", "https"}},
		"authority for a directory":            {list(s.repo, "--repo-ca", ca), 2, []string{"--repo-ca", "https://"}},
		"certificate without its key":          {list("https://host/x", "--repo-cert", ca), 2, []string{"--repo-cert and --repo-key belong together"}},
	} {
		t.Run(name, func(t *testing.T) {
			agentd(t, c.args...).fails(t, c.code, c.says...)
		})
	}
}
