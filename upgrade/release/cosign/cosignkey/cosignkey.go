// Package cosignkey reads the private keys that cosign signs with. It is
// apart from package cosign so that an agent, which only checks signatures,
// links none of the cryptography that an encrypted file needs.
package cosignkey

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/perennial-go/perennial/internal/strictjson"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

const maxFileSize = 16 << 10

// ErrPassword is wrapped where the password of an encrypted key is wrong.
var ErrPassword = errors.New("wrong password of the cosign key")

// Load reads a private key: a cosign.key, which is encrypted with password,
// or an unencrypted PEM file (PKCS #8 or SEC 1). It refuses a file that
// others than its owner can read or write.
func Load(path string, password []byte) (key *cosign.PrivateKey, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w: give the cosign.key of the publisher", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cosign key %s is no regular file: give a cosign.key", path)
	}
	// Windows has no such bits; access lists guard the file there.
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return nil, fmt.Errorf("cosign key %s has mode %04o, so others than its owner can use it: run chmod 600 on it, and replace the key if it was exposed", path, perm)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	key, err = Parse(text, password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// Parse reads the text of a private key; see Load.
func Parse(text, password []byte) (*cosign.PrivateKey, error) {
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("cosign key: more than %d bytes: give a cosign.key", maxFileSize)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("cosign key: found no PEM block: give a cosign.key")
	}
	der := block.Bytes
	switch block.Type {
	case "ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY":
		var err error
		if der, err = decrypt(block.Bytes, password); err != nil {
			return nil, err
		}
	case "PRIVATE KEY":
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, errors.New("cosign key: the file is damaged: restore it from its backup")
		}
		return cosign.NewPrivateKey(key)
	default:
		return nil, fmt.Errorf("cosign key: found a PEM block of type %.60q, want an encrypted cosign key or a PRIVATE KEY", block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("cosign key: the file is damaged: restore it from its backup")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("cosign key: found a %T, want one of ECDSA on the curve P-256, as cosign generate-key-pair makes it", parsed)
	}
	return cosign.NewPrivateKey(key)
}

// sealed is what is in an encrypted PEM block.
type sealed struct {
	KDF struct {
		Name   string `json:"name"`
		Params params `json:"params"`
		Salt   []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// params are those of scrypt.
type params struct {
	N int `json:"N"`
	R int `json:"r"`
	P int `json:"p"`
}

// known reports whether cosign writes these. Others could ask for any amount
// of memory and time.
func (p params) known() bool {
	return p.R == 8 && p.P == 1 && (p.N == 1<<15 || p.N == 1<<16 || p.N == 1<<17)
}

func decrypt(raw, password []byte) ([]byte, error) {
	var s sealed
	if err := strictjson.Check(raw, 4); err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	var nonce [24]byte
	if s.KDF.Name != "scrypt" || !s.KDF.Params.known() || s.Cipher.Name != "nacl/secretbox" || len(s.Cipher.Nonce) != len(nonce) {
		return nil, fmt.Errorf("cosign key: encrypted with %.40q (N %d, r %d, p %d) and %.40q, want scrypt and nacl/secretbox as cosign uses them", s.KDF.Name, s.KDF.Params.N, s.KDF.Params.R, s.KDF.Params.P, s.Cipher.Name)
	}
	copy(nonce[:], s.Cipher.Nonce)
	derived, err := scrypt.Key(password, s.KDF.Salt, s.KDF.Params.N, s.KDF.Params.R, s.KDF.Params.P, 32)
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	plain, ok := secretbox.Open(nil, s.Ciphertext, &nonce, (*[32]byte)(derived))
	if !ok {
		return nil, fmt.Errorf("%w: set COSIGN_PASSWORD to the one that it was made with", ErrPassword)
	}
	return plain, nil
}
