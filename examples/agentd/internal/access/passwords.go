package access

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

// Passwords is a directory, mode 0700, with one file for each user, mode 0600,
// that holds the user's password.
type Passwords string

// next is the suffix of a password that is being changed to.
const next = ".next"

func (p Passwords) path(user string) string { return filepath.Join(string(p), user) }

// ensure returns the password of user, made up if there is no file. The file
// is on disk before etcd learns of it: a password that etcd knows and nobody
// else would lock its user out.
func (p Passwords) ensure(user string) (string, error) {
	password, err := p.read(p.path(user))
	if !errors.Is(err, fs.ErrNotExist) {
		return password, err
	}
	return p.write(p.path(user))
}

func (p Passwords) write(path string) (string, error) {
	if err := durable.MakeDir(string(p)); err != nil {
		return "", fmt.Errorf("directory of passwords: %w", err)
	}
	password := rand.Text()
	if err := durable.WriteFile(path, []byte(password+"\n")); err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	return password, nil
}

func (p Passwords) read(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	password := strings.TrimSpace(string(data))
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("password file %s: want one line, found none or more", path)
	}
	return password, nil
}

// Rotate gives user another password by change, which tells etcd. A crash
// leaves both passwords on disk, and the next Rotate goes on with the new one.
func (p Passwords) Rotate(user string, change func(password string) error) error {
	password, err := p.read(p.path(user) + next)
	if errors.Is(err, fs.ErrNotExist) {
		password, err = p.write(p.path(user) + next)
	}
	if err != nil {
		return err
	}
	if err := change(password); err != nil {
		return err
	}
	if err := os.Rename(p.path(user)+next, p.path(user)); err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	return durable.SyncDir(string(p))
}
