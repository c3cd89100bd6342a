package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// publisherState returns the directory in which this user's publishing commands
// remember what they have signed last in a repository, by the repository's path
// and the program's name. It is empty where nothing can be kept, as in a build
// container without a home: remembering is a safeguard that stops nobody.
func publisherState(repo, name string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, _ := os.UserHomeDir()
		if home == "" {
			return "", nil
		}
		base = filepath.Join(home, ".local", "state")
	}
	if !filepath.IsAbs(base) {
		return "", usagef("XDG_STATE_HOME: want an absolute path, found %q", base)
	}
	abs, err := filepath.Abs(repo)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs + "\x00" + name))
	return filepath.Join(base, "agentd", "publisher", hex.EncodeToString(sum[:8])), nil
}

// probeName is of the directory by which writable tries; none of the files of
// a state directory, nor of their leftovers, which another process may be
// writing or deleting.
const probeName = ".probe"

// writable makes dir and tries it. Others may try it at the same time, and one
// that was killed leaves what the next takes away.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe := filepath.Join(dir, probeName)
	if err := os.Mkdir(probe, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Remove(probe); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remember sets where p remembers, and says on standard error if it cannot write
// there. What is remembered there already holds all the same: whoever can take
// away the right to write must not make it forgotten with that.
func (p *publisher) remember() (dir string, readOnly bool, err error) {
	dir, err = publisherState(p.dir, p.name)
	if err != nil || dir == "" {
		return "", false, err
	}
	cannot := writable(dir)
	if cannot == nil {
		return dir, false, nil
	}
	_, _ = fmt.Fprintf(os.Stderr, "agentd does not remember what it signs, since it cannot write to %s: %v\n", dir, cannot)
	if _, err := os.Stat(dir); err != nil {
		return "", false, nil //nolint:nilerr // there is none, or nothing that this user could read
	}
	return dir, true, nil
}
