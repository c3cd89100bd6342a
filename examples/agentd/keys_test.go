package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// vault is a directory with the keys of two roots and of a publisher.
type vault struct {
	t                  testing.TB
	dir, repo, keyring string
}

func newVault(t testing.TB) *vault {
	t.Helper()
	dir := t.TempDir()
	v := &vault{t, dir, filepath.Join(dir, "repo"), filepath.Join(dir, "keyring.json")}
	var roots []byte
	for _, name := range []string{"root-1", "root-2", "release", "next"} {
		agentd(t, "keys", "generate", "--out", dir, "--as", name).ok(t)
		if strings.HasPrefix(name, "root") {
			roots = append(roots, v.read(name+".pub")...)
		}
	}
	v.write("roots.pub", roots)
	return v
}

// newRootedSite is a site whose repository has a keyring, signed by both roots,
// with the key "release", and 1.1.0 by it. Commands trust it by the flags roots.
func newRootedSite(t testing.TB) (s *site, v *vault, roots []string) {
	t.Helper()
	s, v = newSite(t), newVault(t)
	s.repo = v.repo
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	v.sign()
	v.build("release", "1.1.0").ok(t)
	return s, v, []string{"--trust", "", "--trust-roots", v.file("roots.pub"), "--trust-threshold", "2"}
}

func (v *vault) file(name string) string { return filepath.Join(v.dir, name) }

func (v *vault) read(name string) []byte {
	v.t.Helper()
	data, err := os.ReadFile(v.file(name))
	if err != nil {
		v.t.Fatal(err)
	}
	return data
}

func (v *vault) write(name string, data []byte) {
	v.t.Helper()
	if err := os.WriteFile(v.file(name), data, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// keys runs a keys command on the vault's keyring.
func (v *vault) keys(command string, args ...string) result {
	v.t.Helper()
	return agentd(v.t, append([]string{"keys", command, "--keyring", v.keyring}, args...)...)
}

func (v *vault) install() result {
	v.t.Helper()
	return v.keys("install", "--repo", v.repo, "--trust-roots", v.file("roots.pub"), "--trust-threshold", "2")
}

// sign has both roots sign the keyring, and installs it.
func (v *vault) sign() {
	v.t.Helper()
	for _, root := range []string{"root-1", "root-2"} {
		v.keys("sign", "--key", v.file(root+".key")).ok(v.t)
	}
	v.install().ok(v.t)
}

// build publishes without what compressing the executable takes, seconds each,
// unless more says --plain=false.
func (v *vault) build(key, version string, more ...string) result {
	v.t.Helper()
	return agentd(v.t, append(append([]string{"release", "build", "--plain", "--key", v.file(key + ".key"), "--repo", v.repo, "--version", version}, more...), binary(v.t, version))...)
}

func (v *vault) list() (view keyringView) {
	v.t.Helper()
	r := agentd(v.t, "keys", "list", "--repo", v.repo, "--trust-roots", v.file("roots.pub"), "-o", "json").ok(v.t)
	if err := json.Unmarshal([]byte(r.stdout), &view); err != nil {
		v.t.Fatalf("%v in %s", err, r.stdout)
	}
	return view
}

func (v *vault) id(name string) string {
	v.t.Helper()
	key, err := release.ParsePublicKey(v.read(name + ".pub"))
	if err != nil {
		v.t.Fatal(err)
	}
	return release.KeyID(key)
}

func TestKeyringIsInstalledOnlyOnceEnoughRootsHaveSigned(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	v.keys("create", "--add", v.file("release.pub")).fails(t, 1, "there already")
	v.install().fails(t, 1, "not trusted", "it is not signed")
	if r := v.keys("sign", "--key", v.file("root-1.key")).ok(t); !strings.Contains(r.stdout, v.id("release")) || !strings.Contains(r.stdout, "keyring 1 of agentd") {
		t.Errorf("sign does not show what it signs:\n%s", r.stdout)
	}
	// The same root again, and its signature under another name.
	v.keys("sign", "--key", v.file("root-1.key")).ok(t)
	v.write("keyring.json.copy.minisig", v.read("keyring.json."+v.id("root-1")+".minisig"))
	v.install().fails(t, 1, "not trusted", v.id("root-1")+" alone")
	v.keys("sign", "--key", v.file("release.key")).fails(t, 1, "no root")
	v.keys("sign", "--key", v.file("next.key")).ok(t)
	v.install().fails(t, 1, "not trusted", "signed by key "+v.id("next"))
	if r := v.keys("list", "--trust-roots", v.file("roots.pub")).ok(t); !strings.Contains(r.stdout, "signed by 1 of 2 roots that are needed: "+v.id("root-1")) {
		t.Errorf("list does not show who has signed:\n%s", r.stdout)
	}
	if _, err := os.Stat(filepath.Join(v.repo, "keyring.json")); err == nil {
		t.Error("a keyring below the threshold was installed")
	}
	v.keys("sign", "--key", v.file("root-2.key")).ok(t)
	v.install().ok(t)
	if got := v.list(); got.Keyring.Sequence != 1 || len(got.Keyring.Keys) != 1 || got.Keyring.Keys[0].ID() != v.id("release") {
		t.Errorf("installed is %+v", got.Keyring)
	}
}

func TestPublishersKeyIsRotatedAndRevoked(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	v.sign()
	v.build("release", "1.0.0").ok(t)
	v.build("next", "1.1.0").fails(t, 1, "not trusted", v.id("next"), "may not sign")

	v.keys("rotate", "--add", v.file("next.pub"), "--retire", v.file("release.pub"), "--retire-after", "1h", "--comment", "build 2").ok(t)
	if r := v.keys("list").ok(t); !strings.Contains(r.stdout, "build 2") || !strings.Contains(r.stdout, "not checked") {
		t.Errorf("list shows\n%s", r.stdout)
	}
	v.install().fails(t, 1, "it is not signed")
	v.sign()
	roots := []string{"--trust-roots", v.file("roots.pub")}
	v.build("next", "1.1.0", roots...).ok(t)

	v.keys("revoke", "--reason", "broken into", strings.ToLower(v.id("release"))).ok(t)
	v.sign()
	v.build("release", "1.2.0").fails(t, 1, "key revoked", "broken into")
	v.keys("rotate", "--add", v.file("release.pub")).fails(t, 1, "key revoked")
	v.keys("renew").ok(t)
	v.sign()
	got := v.list().Keyring
	if got.Sequence != 4 || len(got.Keys) != 1 || len(got.Revoked) != 1 || got.Revoked[0].ID != v.id("release") || got.Revoked[0].Reason != "broken into" {
		t.Errorf("installed is %+v", got)
	}
	if r := agentd(t, "release", "list", "--repo", v.repo, "--trust-roots", v.file("roots.pub")).ok(t); !strings.Contains(r.stdout, "1.1.0") {
		t.Errorf("releases:\n%s", r.stdout)
	}
}

func TestKeysWithoutANetworkNeedNoRepository(t *testing.T) {
	t.Parallel()
	minisign, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("the minisign command is not installed (Debian package minisign)")
	}
	v := newVault(t)
	v.write("password", []byte("correct horse\n"))
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	agentd(t, "keys", "generate", "--out", v.file("usb"), "--as", "root-3", "--password-file", v.file("password")).ok(t)
	key := v.file("usb/root-3.key")
	v.keys("sign", "--key", key).fails(t, 2, "--password-file", passwordVariable)
	if err := os.Chmod(v.file("password"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.keys("sign", "--key", key, "--password-file", v.file("password")).fails(t, 1, "chmod 600")
	command(t, []string{passwordVariable + "=correct horse"}, "keys", "sign", "--key", key, "--keyring", v.keyring).ok(t)
	// The other root signs with minisign alone.
	out, err := exec.CommandContext(t.Context(), minisign, "-S", "-s", v.file("root-1.key"), "-m", v.keyring, "-x", v.keyring+".root-1.minisig").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.write("roots.pub", append(v.read("root-1.pub"), v.read("usb/root-3.pub")...))
	v.install().ok(t)
	for pub, root := range map[string]string{"root-1.pub": v.id("root-1"), "usb/root-3.pub": v.id("usb/root-3")} {
		document := filepath.Join(v.repo, "keyring.json")
		out, err := exec.CommandContext(t.Context(), minisign, "-V", "-p", v.file(pub), "-m", document, "-x", document+"."+root+".minisig").CombinedOutput()
		if err != nil {
			t.Errorf("minisign refuses the signature of %s: %v\n%s", root, err, out)
		}
	}
}

func TestWrongUsageOfKeys(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"nothing to rotate":           {[]string{"keys", "rotate", "--keyring", "k"}, []string{"--add", "--retire", "renew"}},
		"time that is none":           {[]string{"keys", "create", "--keyring", filepath.Join(t.TempDir(), "k"), "--add", "p", "--not-after", "soon"}, []string{"--not-after", "soon"}},
		"nothing to list":             {[]string{"keys", "list"}, []string{"--repo", "--keyring"}},
		"two things to list":          {[]string{"keys", "list", "--repo", "r", "--keyring", "k"}, []string{"--repo", "--keyring"}},
		"nothing to trust":            {[]string{"release", "list", "--repo", "r"}, []string{"--trust", "AGENTD_TRUST", "--trust-roots"}},
		"two ways to trust":           {[]string{"release", "list", "--repo", "r", "--trust", "a", "--trust-roots", "b"}, []string{"--trust", "AGENTD_TRUST_ROOTS"}},
		"threshold without roots":     {[]string{"release", "list", "--repo", "r", "--trust", "a", "--trust-threshold", "2"}, []string{"--trust-roots"}},
		"revocation without a reason": {[]string{"keys", "revoke", "--keyring", "k", "84E58F239BEA7357"}, []string{"--reason"}},
		"roots without a repository":  {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--trust-roots", "r"}, []string{"--repo"}},
		"install without roots":       {[]string{"keys", "install", "--keyring", "k", "--repo", "r"}, []string{"--trust-roots"}},
	} {
		t.Run(name, func(t *testing.T) {
			agentd(t, c.args...).fails(t, 2, c.says...)
		})
	}
	agentd(t, "keys", "revoke", "--keyring", "k", "--reason", "x", "nonsense").fails(t, 1, "16 digits")
}
