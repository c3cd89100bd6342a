package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
)

const lockName = "lock"

// lockPatience bounds the waits for locks that others hold for a moment.
const lockPatience = time.Second

// lockState takes the state directory for this process. The lock belongs to
// the open file, not to the process: a successor inherits the descriptor, so
// that the directory is never free during a swap, and the kernel gives it up
// with the last holder.
func lockState(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, errReadOnly) {
		// A lock needs no write; where there is none yet, the first error says why.
		if held, openErr := os.Open(path); openErr == nil {
			f, err = held, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("state directory %s cannot be written: %w; %s", dir, err, remedy(err, "give the agent's user a directory of its own"))
	}
	// Inspect holds the lock for a moment, and so does a predecessor that is
	// just ending.
	if filelock.Wait(context.Background(), f, lockPatience) != nil {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(fmt.Errorf("state directory %s belongs to the running agent with pid %s: %w; stop that one or choose another directory", dir, strings.TrimSpace(string(holder)), ErrLocked), f.Close())
	}
	return f, nil
}

// waitForLock opens path and locks it; closing it gives the lock back.
func waitForLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(context.Background(), f, lockPatience); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: %w", path, ErrLocked, err), f.Close())
	}
	return f, nil
}

// signLock writes who holds the lock, for the error message above.
func signLock(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
