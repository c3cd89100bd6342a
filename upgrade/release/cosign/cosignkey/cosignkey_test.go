package cosignkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

func write(t *testing.T, text []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cosign.key")
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func block(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestKeyOfTheRealCosignIsRead(t *testing.T) {
	program, dir := peertest.Find(t, "cosign", "v3.1.3"), t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, "generate-key-pair")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "COSIGN_PASSWORD=correct horse", "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, "cosign.key")
	key, err := Load(path, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := cosign.LoadPublicKey(filepath.Join(dir, "cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if key.Public().Hint() != public.Hint() {
		t.Error("the private key is not of the public one")
	}
	if _, err := Load(path, []byte("wrong")); !errors.Is(err, ErrPassword) || !strings.Contains(err.Error(), "COSIGN_PASSWORD") {
		t.Errorf("wrong password: %v, want ErrPassword", err)
	}
}

func TestPrivateKeyFiles(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	costly := `{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"ciphertext":"AAAA"}`
	for _, tt := range []struct {
		name string
		text []byte
		says string
	}{
		{"PKCS #8", pkcs8(p256), ""},
		{"SEC 1", block("EC PRIVATE KEY", sec1, err), ""},
		{"another curve", pkcs8(p384), "P-256"},
		{"RSA", pkcs8(other), "P-256"},
		{"public key", block("PUBLIC KEY", nil, nil), "PUBLIC KEY"},
		{"damaged", block("PRIVATE KEY", []byte("x"), nil), "damaged"},
		{"damaged SEC 1", block("EC PRIVATE KEY", []byte("x"), nil), "damaged"},
		{"no PEM", []byte("hunter2"), "no PEM"},
		{"scrypt that takes a terabyte", block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte(costly), nil), "N 1073741824"},
		{"encrypted with nothing", block("ENCRYPTED COSIGN PRIVATE KEY", []byte(`{}`), nil), "want scrypt"},
		{"no JSON", block("ENCRYPTED COSIGN PRIVATE KEY", []byte(`x`), nil), "JSON"},
		{"oversized", make([]byte, maxFileSize+1), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := Load(write(t, tt.text, 0o600), nil)
			if tt.says == "" && (err != nil || key == nil) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows what is in the file: %v", err)
			}
		})
	}
	if runtime.GOOS != "windows" {
		if _, err := Load(write(t, pkcs8(p256), 0o644), nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("key that others can read: %v", err)
		}
	}
	if _, err := Load(t.TempDir(), nil); err == nil {
		t.Error("a directory was taken for a key")
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = Parse(text, []byte("x")) })
}
