package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// minisignTool runs the real minisign command in a directory of its own.
type minisignTool struct {
	t    *testing.T
	path string
	dir  string
}

func newMinisign(t *testing.T) *minisignTool {
	t.Helper()
	path, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("the minisign command is not installed (Debian package minisign)")
	}
	return &minisignTool{t, path, t.TempDir()}
}

func (m *minisignTool) file(name string) string { return filepath.Join(m.dir, name) }

func (m *minisignTool) run(stdin string, args ...string) error {
	cmd := exec.CommandContext(m.t.Context(), m.path, args...)
	cmd.Dir, cmd.Stdin = m.dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	m.t.Logf("minisign %q: %v\n%s", args, err, out)
	return err
}

func (m *minisignTool) must(stdin string, args ...string) {
	m.t.Helper()
	if err := m.run(stdin, args...); err != nil {
		m.t.Fatal(err)
	}
}

// tampered is a copy of a file with another first byte.
func (m *minisignTool) tampered(name string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.file(name))
	if err == nil {
		data[0] ^= 1
		err = os.WriteFile(m.file("tampered"), data, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return "tampered"
}

func (m *minisignTool) write(name string, data []byte) {
	m.t.Helper()
	if err := os.WriteFile(m.file(name), data, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *minisignTool) public(name string) minisign.PublicKey {
	m.t.Helper()
	trust, err := LoadTrust(m.file(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return trust.Keys[0]
}

// patient skips what uses a password under the race detector, where its key
// derivation takes minutes; the same is tested without it, and in agentd.
func patient(t *testing.T, password string) {
	t.Helper()
	if raceDetector && password != "" {
		t.Skip("a password takes minutes under the race detector: run without -race")
	}
}

// A password costs a gigabyte of memory and seconds, so each way has one.
func TestKeysOfMinisignSignReleases(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		password string
		args     []string
	}{
		"without a password": {"", []string{"-G", "-W"}},
		"with a password":    {"correct horse", []string{"-G"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMinisign(t)
			patient(t, tt.password)
			m.must(tt.password+"\n"+tt.password+"\n", append(tt.args, "-p", "a.pub", "-s", "a.key")...)
			if _, err := LoadPrivateKey(m.file("a.key")); (err != nil) != (tt.password != "") {
				t.Errorf("read without a password: %v", err)
			}
			key, err := OpenPrivateKey(m.file("a.key"), func() (string, error) { return tt.password, nil })
			if err != nil {
				t.Fatal(err)
			}
			m.write("m", []byte("message"))
			m.write("m.minisig", sign(key, []byte("message"), "our comment"))
			m.must("", "-V", "-p", "a.pub", "-m", "m")
			if m.run("", "-V", "-p", "a.pub", "-m", m.tampered("m"), "-x", "m.minisig") == nil {
				t.Error("minisign takes our signature for other bytes")
			}
		})
	}
}

func TestSignaturesOfMinisignCount(t *testing.T) {
	t.Parallel()
	m := newMinisign(t)
	m.must("", "-G", "-W", "-p", "a.pub", "-s", "a.key")
	m.write("m", []byte("message"))
	trust := Trust{Keys: []minisign.PublicKey{m.public("a.pub")}}
	for name, flag := range map[string]string{"prehashed": "-SH", "by default": "-S", "legacy": "-Sl"} {
		m.must("", flag, "-s", "a.key", "-m", "m", "-t", "theirs")
		signature, err := os.ReadFile(m.file("m.minisig"))
		if err != nil {
			t.Fatal(err)
		}
		if err := trust.Verify([]byte("message"), signature); (err == nil) != (name != "legacy") {
			t.Errorf("%s: %v", name, err)
		}
		if trust.Verify([]byte("other"), signature) == nil {
			t.Errorf("%s: the signature is good for other bytes", name)
		}
	}
}

func TestKeysOfOursAreReadByMinisign(t *testing.T) {
	t.Parallel()
	for name, password := range map[string]string{"without a password": "", "with a password": "correct horse"} {
		t.Run(name, func(t *testing.T) {
			m := newMinisign(t)
			patient(t, password)
			public, err := CreateKey(KeyConfig{Dir: m.dir, Name: "b", Password: password})
			if err != nil {
				t.Fatal(err)
			}
			m.write("m", []byte("message"))
			m.must(password+"\n", "-S", "-s", "b.key", "-m", "m")
			m.must("", "-V", "-p", "b.pub", "-m", "m")
			m.must("", "-V", "-P", public.String(), "-m", "m")
		})
	}
}

// The root that never meets this program: made by minisign, and signing with
// it alone. What is installed, minisign checks file by file.
func TestKeyringIsSignedAndCheckedByMinisignAlone(t *testing.T) {
	t.Parallel()
	m := newMinisign(t)
	var trust Trust
	for _, name := range []string{"r1", "r2"} {
		m.must("", "-G", "-W", "-p", name+".pub", "-s", name+".key")
		trust.Roots = append(trust.Roots, m.public(name+".pub"))
	}
	r := &rooted{fixture: newFixture(t)}
	var err error
	if r.ring, err = NewKeyring("agentd"); err != nil {
		t.Fatal(err)
	}
	r.add(1)
	document := r.issue()
	m.write("keyring.json", document)
	var signatures [][]byte
	for _, name := range []string{"r1", "r2"} {
		m.must("", "-S", "-s", name+".key", "-m", "keyring.json", "-x", name+".sig", "-t", "checked by hand")
		signature, err := os.ReadFile(m.file(name + ".sig"))
		if err != nil {
			t.Fatal(err)
		}
		signatures = append(signatures, signature)
	}
	cfg := KeyringConfig{Dir: r.dir, Trust: trust, Now: r.now}
	if _, err := InstallKeyring(t.Context(), cfg, document, signatures[0]); err == nil {
		t.Error("one of two roots was enough")
	}
	if _, err := InstallKeyring(t.Context(), cfg, document, signatures...); err != nil {
		t.Fatal(err)
	}
	if k, err := r.hostOf(r.source(), trust).Keyring(t.Context()); err != nil || k.Sequence != 1 {
		t.Errorf("keyring %+v, %v", k, err)
	}
	for i, name := range []string{"r1", "r2"} {
		signature := r.path(keyringCopyPath(KeyID(trust.Roots[i])))
		m.must("", "-V", "-p", name+".pub", "-m", r.path(keyringPath), "-x", signature)
	}
	// And our own signature of a keyring.
	ours, err := SignKeyring(document, fixtureKey(t, root1))
	if err != nil {
		t.Fatal(err)
	}
	m.write("ours", ours)
	m.must("", "-V", "-P", fixturePublic(t, root1).String(), "-m", "keyring.json", "-x", "ours")
}
