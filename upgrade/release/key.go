package release

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/secretfile"
)

// The files that GenerateKey writes.
const (
	// PrivateKeyFile holds the release key, mode 0600.
	PrivateKeyFile = "release.key"
	// PublicKeyFile holds what hosts are given as their trust.
	PublicKeyFile = "release.pub"
)

const maxKeyFileSize = 64 << 10

// KeyConfig says which key pair to make. Dir is required.
type KeyConfig struct {
	// Dir is the directory for the two files; it is made if it is missing.
	Dir string
	// Name is the files' name without .key and .pub; default "release".
	Name string
	// Password encrypts the private key as the minisign command does, which
	// takes a second and 1 GiB of memory, at each use as well. Without one
	// the key's protection is the file's mode.
	Password string
}

// GenerateKey writes a new key pair into dir, which it makes if need be, and
// returns the public key. Keys that are there already are never replaced:
// the error then wraps fs.ErrExist. The private key is not encrypted; its
// protection is the file's mode.
func GenerateKey(dir string) (minisign.PublicKey, error) {
	return CreateKey(KeyConfig{Dir: dir})
}

// CreateKey is GenerateKey for keys of other names, and with a password. The
// minisign command reads the files, and OpenPrivateKey reads its.
func CreateKey(cfg KeyConfig) (minisign.PublicKey, error) {
	name := cmp.Or(cfg.Name, "release")
	if err := CheckName(name); err != nil {
		return minisign.PublicKey{}, fmt.Errorf("generate key: %w", err)
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		return minisign.PublicKey{}, fmt.Errorf("generate key: %w", err)
	}
	privateText, err := private.MarshalText()
	if err == nil && cfg.Password != "" {
		privateText, err = minisign.EncryptKey(cfg.Password, private)
	}
	if err != nil {
		return minisign.PublicKey{}, fmt.Errorf("generate key: %w", err)
	}
	publicText, err := public.MarshalText()
	if err != nil {
		return minisign.PublicKey{}, fmt.Errorf("generate key: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return minisign.PublicKey{}, fmt.Errorf("directory for the key: %w", err)
	}
	keyPath := filepath.Join(cfg.Dir, name+".key")
	if err := createKey(keyPath, append(privateText, '\n'), 0o600); err != nil {
		return minisign.PublicKey{}, err
	}
	if err := createKey(filepath.Join(cfg.Dir, name+".pub"), append(publicText, '\n'), 0o644); err != nil {
		return minisign.PublicKey{}, errors.Join(err, os.Remove(keyPath))
	}
	return public, atomicfile.SyncDir(cfg.Dir)
}

// createKey writes a file that must not exist yet.
func createKey(path string, text []byte, perm os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and keys are never replaced: choose another directory, or move the old key away: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("write private key: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write private key: %w", err), os.Remove(path))
	}
	return nil
}

// LoadPrivateKey reads the key that signs releases. It refuses a file that
// anyone but its owner may read or write, a damaged key and one with a
// password.
func LoadPrivateKey(path string) (minisign.PrivateKey, error) {
	return OpenPrivateKey(path, nil)
}

// OpenPrivateKey is LoadPrivateKey for keys with a password, too: password is
// asked for it once, and only if there is one. To decrypt takes a second and
// 1 GiB of memory.
func OpenPrivateKey(path string, password func() (string, error)) (minisign.PrivateKey, error) {
	if isPublicKey(path) {
		return minisign.PrivateKey{}, fmt.Errorf("%s holds no private key, but a public one: give the private key of the pair, such as %s", path, strings.TrimSuffix(path, ".pub")+".key")
	}
	text, err := secretfile.Read("private key", path, maxKeyFileSize)
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	key, err := decodePrivate(path, []byte(text), password)
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	// A key whose two halves do not belong together would reveal itself by
	// what it signs, so it is tried before anything is published.
	public, err := publicKey(key)
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	probe := []byte("probe")
	if (Trust{Keys: []minisign.PublicKey{public}}).Verify(probe, sign(key, probe, "probe")) != nil {
		return minisign.PrivateKey{}, fmt.Errorf("private key %s is damaged: restore it from its backup", path)
	}
	return key, nil
}

func decodePrivate(path string, text []byte, password func() (string, error)) (key minisign.PrivateKey, err error) {
	if !minisign.IsEncrypted(text) {
		if err := key.UnmarshalText(text); err != nil {
			return key, fmt.Errorf("%s holds no private key: %w: give the file made by keys generate", path, err)
		}
		return key, nil
	}
	if password == nil {
		return key, fmt.Errorf("private key %s is encrypted with a password, and none was given: give it, or a key without one", path)
	}
	secret, err := password()
	if err != nil {
		return key, fmt.Errorf("password of key %s: %w", path, err)
	}
	if key, err = minisign.DecryptKey(secret, text); err != nil {
		return key, fmt.Errorf("key %s cannot be decrypted: wrong password, or the file is damaged: %w", path, err)
	}
	return key, nil
}

// isPublicKey tells before anything is said of the file's mode, which is right
// for a public key.
func isPublicKey(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, err := atomicfile.Read(path, maxKeyFileSize)
	if err != nil {
		return false
	}
	_, err = parsePublicKeys(text)
	return err == nil
}

func publicKey(key minisign.PrivateKey) (minisign.PublicKey, error) {
	public, ok := key.Public().(minisign.PublicKey)
	if !ok {
		return minisign.PublicKey{}, fmt.Errorf("private key has a public key of type %T", key.Public())
	}
	return public, nil
}

// ParsePublicKey reads one public key: the text of a .pub file, or its
// base64 line alone.
func ParsePublicKey(text []byte) (minisign.PublicKey, error) {
	keys, err := parsePublicKeys(text)
	if err != nil {
		return minisign.PublicKey{}, err
	}
	if len(keys) != 1 {
		return minisign.PublicKey{}, fmt.Errorf("found %d public keys, want one", len(keys))
	}
	return keys[0], nil
}

// parsePublicKeys reads one key a line; comment lines and empty ones are
// skipped.
func parsePublicKeys(text []byte) ([]minisign.PublicKey, error) {
	var keys []minisign.PublicKey
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		var key minisign.PublicKey
		if err := key.UnmarshalText([]byte(line)); err != nil {
			return nil, fmt.Errorf("%.80q is no minisign public key: %w: give the release.pub of the publisher, not a private key", redact(line), err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("found no public key: give the release.pub of the publisher")
	}
	return keys, nil
}

// redact keeps a private key given by mistake out of error messages.
func redact(line string) string {
	if len(line) > 60 {
		return line[:8] + "…"
	}
	return line
}
