package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/filelock"
)

// trustPatience bounds the wait for another process that writes the trust
// state, which takes it one sync of a file. One that is stopped, or hangs on its
// disk, must not keep the agent from ending: the wait ends with its context, too.
const trustPatience = 10 * time.Second

// saved is what this host has accepted so far; c.mu must be held. The file may
// have been deleted on purpose while this client lives: then it is the file
// that counts.
func (c *Client) saved() (trustState, error) {
	if c.cfg.StateFile == "" {
		return c.state, nil
	}
	return readTrustState(c.cfg.StateFile)
}

// update decides on what this host has accepted, and saves what becomes of it
// if decide says that this is worth it; c.mu must be held. Another process may
// have written since it was read: what is written is decided under a lock, so
// that no sequence, no revocation and no keyring is lost to an older look. Where
// nothing is written, as is usual, there is no lock.
func (c *Client) update(ctx context.Context, decide func(saved trustState) (next trustState, changed bool, err error)) (trustState, error) {
	saved, err := c.saved()
	if err != nil {
		return saved, err
	}
	next, changed, err := decide(saved)
	if err != nil || !changed || c.cfg.StateFile == "" {
		return next, err
	}
	if err := failpoint.Hit("trust.decided"); err != nil {
		return saved, err
	}
	lock, err := lockTrustState(ctx, c.cfg.StateFile+".lock")
	if err != nil {
		return saved, fmt.Errorf("trust state cannot be saved, so the index is not used: %w", writeError(err))
	}
	defer func() { _ = lock.Close() }()
	if saved, err = c.saved(); err != nil {
		return saved, err
	}
	if next, changed, err = decide(saved); err != nil || !changed {
		return next, err
	}
	if err := failpoint.Hit("trust.write"); err != nil {
		return saved, err
	}
	return next, next.write(c.cfg.StateFile)
}

// lockTrustState returns the locked file; closing it gives the lock back, and
// so does the end of the process.
func lockTrustState(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, f, trustPatience); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: %w", path, ErrLocked, err), f.Close())
	}
	return f, nil
}
