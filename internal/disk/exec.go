package disk

import (
	"errors"
	"fmt"
)

// ErrNoExec is wrapped by what CheckExec returns of a file system without
// executables.
var ErrNoExec = errors.New("nothing can be executed there")

// ErrReadOnly is wrapped by what CheckExec returns of a file system that
// cannot be written.
var ErrReadOnly = errors.New("file system is read-only")

// CheckExec returns an error when executables that are put below dir cannot
// be written or started, because its file system is mounted read-only or
// noexec. Where the system does not tell, it returns nil: a start then fails.
func CheckExec(dir string) error {
	m, err := mountOf(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("mount options of %s: %w", dir, err)
	case m.readOnly:
		return fmt.Errorf("%w: %s wants to be written: mount it read-write", ErrReadOnly, dir)
	case m.noExec:
		return fmt.Errorf("%w: %s is on a file system that is mounted noexec: mount it with exec, or move the directory", ErrNoExec, dir)
	}
	return nil
}

// mount holds the options of a mounted file system.
type mount struct{ readOnly, noExec bool }
