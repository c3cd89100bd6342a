package release

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"aead.dev/minisign"
)

func TestGeneratedKeysSignAndVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	public, err := GenerateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := LoadPrivateKey(filepath.Join(dir, PrivateKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := LoadTrust(filepath.Join(dir, PublicKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(trust.Keys) != 1 || !trust.Keys[0].Equal(public) {
		t.Errorf("release.pub holds %v, want the generated key", trust)
	}
	if err := trust.Verify([]byte("x"), sign(key, []byte("x"), "")); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, PrivateKeyFile))
	if err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o600) {
		t.Errorf("release.key has mode %v (%v), want 0600", info.Mode(), err)
	}
	// The C tool reads its format by lines and refuses anything else.
	text, err := os.ReadFile(filepath.Join(dir, PublicKeyFile))
	if err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("release.pub is %q (%v), want two lines", text, err)
	}
}

func TestKeysAreNeverReplaced(t *testing.T) {
	for _, name := range []string{PrivateKeyFile, PublicKeyFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := GenerateKey(dir); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s is there: %v, want fs.ErrExist", name, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
			t.Errorf("%s is now %q (%v)", name, text, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v (%v)", entries, err)
		}
	}
}

func TestPrivateKeyThatOthersCanUseIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes do not say who may read a file on Windows")
	}
	dir := t.TempDir()
	if _, err := GenerateKey(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, PrivateKeyFile)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o602, 0o610, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPrivateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v, want an error that says chmod 600", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPrivateKey(path); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestPrivateKeyThatIsNoneIsRefused(t *testing.T) {
	halves := decodedKey(t, mustText(t, fixtureKey(t, 1)))
	copy(halves[32:], decodedKey(t, mustText(t, fixtureKey(t, 2)))[32:])
	mismatched := mustText(t, rawKey(t, 1, halves))
	// Really encrypting one takes a gigabyte of memory; its mark is enough.
	encrypted := append([]byte("untrusted comment: minisign encrypted secret key\nRWRTY0Iy"), bytes.Repeat([]byte("A"), 203)...)
	encrypted = append(encrypted, '=')
	public, err := fixtureTrust(t, 1).Keys[0].MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text []byte
		says string
	}{
		"empty":              {nil, "no private key"},
		"garbage":            {[]byte("garbage"), "no private key"},
		"public key":         {public, "but a public one: give the private key of the pair"},
		"encrypted":          {encrypted, "encrypted"},
		"halves that differ": {mismatched, "damaged"},
		"huge":               {make([]byte, 1<<20), "larger than"},
	} {
		path := filepath.Join(t.TempDir(), "release.key")
		if err := os.WriteFile(path, tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPrivateKey(path); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, tt.says)
		}
	}
	if _, err := LoadPrivateKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("directory: %v", err)
	}
	if _, err := LoadPrivateKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v, want fs.ErrNotExist", err)
	}
}

func TestTrustFileThatHoldsNoKeyIsRefused(t *testing.T) {
	private := string(mustText(t, fixtureKey(t, 1)))
	for name, text := range map[string]string{
		"empty":        "",
		"comment only": "untrusted comment: minisign public key\n",
		"garbage":      "garbage\n",
		"private key":  private,
		"huge":         strings.Repeat("\n", 1<<20),
	} {
		path := filepath.Join(t.TempDir(), "release.pub")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		trust, err := LoadTrust(path)
		if err == nil {
			t.Errorf("%s: accepted as %v", name, trust)
		} else if _, secret, _ := strings.Cut(private, "\n"); strings.Contains(err.Error(), secret[100:140]) {
			t.Errorf("%s: the error repeats the private key", name)
		}
	}
	if _, err := LoadTrust(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v, want fs.ErrNotExist", err)
	}
}

func TestTrustFileMayHoldSeveralKeys(t *testing.T) {
	var text string
	trust := fixtureTrust(t, 1, 2)
	for _, key := range trust.Keys {
		text += "untrusted comment: key\r\n" + key.String() + "\r\n\r\n"
	}
	path := filepath.Join(t.TempDir(), "release.pub")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadTrust(path)
	if err != nil || got.String() != trust.String() {
		t.Errorf("read %v (%v), want %v", got, err, trust)
	}
	if _, err := ParsePublicKey([]byte(text)); err == nil {
		t.Error("two keys were taken for one")
	}
	if key, err := ParsePublicKey([]byte(trust.Keys[1].String())); err != nil || !key.Equal(trust.Keys[1]) {
		t.Errorf("base64 alone: %v, %v", key, err)
	}
}

func mustText(tb testing.TB, key minisign.PrivateKey) []byte {
	tb.Helper()
	text, err := key.MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// TestPublicKeyInPlaceOfThePrivateOneIsNoExposedKey: its mode is right, and
// nothing was exposed.
func TestPublicKeyInPlaceOfThePrivateOneIsNoExposedKey(t *testing.T) {
	dir := t.TempDir()
	if _, err := GenerateKey(dir); err != nil {
		t.Fatal(err)
	}
	_, err := LoadPrivateKey(filepath.Join(dir, PublicKeyFile))
	if err == nil || !strings.Contains(err.Error(), "public one") || !strings.Contains(err.Error(), filepath.Join(dir, PrivateKeyFile)) || strings.Contains(err.Error(), "chmod") {
		t.Errorf("%v, want an error that names the private key, and no mode", err)
	}
}
