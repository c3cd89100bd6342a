package release

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// undecryptable is an encrypted key that no password opens, and that costs
// next to nothing to try.
func undecryptable() []byte {
	const scrypt, operations, memory = 0x6353, 1 << 15, 1 << 20
	raw := make([]byte, 158)
	binary.LittleEndian.PutUint16(raw, minisign.EdDSA)
	binary.LittleEndian.PutUint16(raw[2:], scrypt)
	binary.LittleEndian.PutUint16(raw[4:], 0x3242)
	binary.LittleEndian.PutUint64(raw[38:], operations)
	binary.LittleEndian.PutUint64(raw[46:], memory)
	return []byte("untrusted comment: minisign encrypted secret key\n" + base64.StdEncoding.EncodeToString(raw) + "\n")
}

func TestWrongPasswordIsNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "release.key")
	if err := os.WriteFile(path, undecryptable(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPrivateKey(path, func() (string, error) { return "wrong", nil }); err == nil || !strings.Contains(err.Error(), "wrong password") {
		t.Errorf("wrong password: %v", err)
	}
	fault := errors.New("no terminal")
	if _, err := OpenPrivateKey(path, func() (string, error) { return "", fault }); !errors.Is(err, fault) {
		t.Errorf("password that cannot be had: %v", err)
	}
	if _, err := LoadPrivateKey(path); err == nil || !strings.Contains(err.Error(), "none was given") {
		t.Errorf("without a password: %v", err)
	}
}

func TestPasswordIsAskedForOnlyIfTheKeyHasOne(t *testing.T) {
	dir := t.TempDir()
	if _, err := CreateKey(KeyConfig{Dir: dir, Name: "root-1"}); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPrivateKey(filepath.Join(dir, "root-1.key"), func() (string, error) {
		t.Error("the password was asked for")
		return "", nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := CreateKey(KeyConfig{Dir: dir, Name: "../x"}); err == nil {
		t.Error("a key was written outside of its directory")
	}
}
