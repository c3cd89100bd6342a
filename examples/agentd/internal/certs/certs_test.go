package certs_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/agentd/internal/certs"
)

// leaf parses what a file holds.
func leaf(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestCertificatesAreGoodForWhatTheyAreMadeForAndNothingElse, also when they
// are renewed under another authority.
func TestCertificatesAreGoodForWhatTheyAreMadeForAndNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certs")
	dir := certs.Dir(path)
	if made, err := dir.Init(); err != nil || !made {
		t.Fatal(made, err)
	}
	if made, err := dir.Init(); err != nil || made {
		t.Fatalf("a second Init made another authority: %v", err)
	}
	for name, hosts := range map[string][]string{"member-etcd1": {"10.0.0.1", "etcd1.example.com"}, "agent-a1": nil} {
		if err := dir.Issue(name, hosts, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(name, host string, usage x509.ExtKeyUsage) error {
		bundle, err := os.ReadFile(filepath.Join(path, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		_, err = leaf(t, filepath.Join(path, name+".pem")).Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	check := func() {
		t.Helper()
		for _, host := range []string{"10.0.0.1", "etcd1.example.com"} {
			if err := verify("member-etcd1", host, x509.ExtKeyUsageServerAuth); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"member-etcd1", "agent-a1"} {
			if err := verify(name, "", x509.ExtKeyUsageClientAuth); err != nil {
				t.Error(err)
			}
			if cn := leaf(t, filepath.Join(path, name+".pem")).Subject.CommonName; cn != name {
				t.Errorf("common name %q, want %q", cn, name)
			}
		}
		if verify("agent-a1", "", x509.ExtKeyUsageServerAuth) == nil {
			t.Error("an agent's certificate serves")
		}
		if verify("member-etcd1", "10.0.0.2", x509.ExtKeyUsageServerAuth) == nil {
			t.Error("a member's certificate is good for another host")
		}
	}
	check()
	if err := dir.NewAuthority(); err != nil {
		t.Fatal(err)
	}
	check()
	if err := dir.DropOldAuthorities(); err == nil {
		t.Error("an authority was dropped that certificates are of")
	}
	leaves, err := dir.List()
	if err != nil || len(leaves) != 2 {
		t.Fatal(leaves, err)
	}
	for _, l := range leaves {
		if err := dir.Issue(l.Name, l.Hosts, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := dir.DropOldAuthorities(); err != nil {
		t.Error(err)
	}
	check()
	if names, err := dir.Authorities(); err != nil || len(names) != 1 {
		t.Errorf("ca.pem holds %q (%v), want one authority", names, err)
	}
	if err := dir.Issue("late", nil, 20*365*24*time.Hour); err == nil {
		t.Error("a certificate outlives its authority")
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600", e.Name(), info.Mode(), err)
		}
	}
}

// TestDamagedFilesAreNamedAndNotShown: the error ends on a terminal.
func TestDamagedFilesAreNamedAndNotShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certs")
	dir := certs.Dir(path)
	if _, err := dir.Init(); err != nil {
		t.Fatal(err)
	}
	if err := dir.Issue("a", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(path, "a.pem")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := os.ReadFile(filepath.Join(path, "ca.key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey := pem.Decode(signer)
	for name, data := range map[string][]byte{
		"cut short":             good[:len(good)-40],
		"empty":                 nil,
		"text":                  []byte("secret words"),
		"another's key":         append(good[:len(good)-len(otherKey)], otherKey...),
		"damaged key":           []byte(strings.Replace(string(good), "PRIVATE KEY-----\nM", "PRIVATE KEY-----\nA", 1)),
		"larger than any could": make([]byte, 2<<20),
	} {
		if err := os.WriteFile(file, append([]byte{}, data...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.List(); err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: want an error that names the file alone, got %v", name, err)
		}
	}
}

// TestNoCertificateIsMadeForWhatIsNoHost: it would be good for nothing, which
// shows when etcd is up, or for too much.
func TestNoCertificateIsMadeForWhatIsNoHost(t *testing.T) {
	for _, good := range []string{"10.0.0.1", "::1", "etcd1", "etcd1.example.com", "a-b.c_d"} {
		if !certs.Hosts([]string{good}) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", " etcd1", "etcd1 ", "*", "*.example.com", "https://etcd1", "etcd1:2379", "a..b", "-a", "a\n", "ü"} {
		if certs.Hosts([]string{"etcd1", bad}) {
			t.Errorf("%q is taken for a host", bad)
		}
	}
}
