package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Open takes the state directory, settles what an interrupted attempt left,
// and finds out whether this process is a successor. On a cold start it may
// replace this process by the current release and then does not return. It
// may be called once a process.
//
// Errors: ErrLocked if another agent runs on the directory.
func (u *Upgrader) Open(ctx context.Context) (err error) {
	u.stop, u.opened = ctx, time.Now()
	if err := u.openState(); err != nil {
		return err
	}
	u.flip, err = tableflip.New(tableflip.Options{
		// The probation is ours to end; this only has to be longer.
		UpgradeTimeout: u.cfg.StartTimeout + u.cfg.StateTimeout + u.cfg.ProbationLimit + u.cfg.Hooks.Timeout +
			u.cfg.SilentAfter + u.cfg.AbortTimeout + commitTimeout + time.Minute,
	})
	if errors.Is(err, tableflip.ErrNotSupported) {
		u.flip, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("tableflip: %w", err)
	}
	if u.flip != nil && u.flip.HasParent() {
		if err := u.inherit(ctx); err != nil {
			return err
		}
		return u.inheritActivated()
	}
	if u.lock, err = lockState(u.cfg.StateDir); err != nil {
		return err
	}
	if err := u.load(); err != nil {
		return err
	}
	if err := u.boot(); err != nil {
		return err
	}
	if u.flip != nil {
		if err := u.flip.AddFile(lockName, u.lock); err != nil {
			return err
		}
	}
	// Not before boot, which may execute another release that needs them.
	if err := u.takeActivated(); err != nil {
		return err
	}
	if err := signLock(u.lock); err != nil {
		u.log.Warn("the lock does not tell this process's pid", "error", err)
	}
	return nil
}

func (u *Upgrader) openState() error {
	if err := os.MkdirAll(u.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("state directory cannot be made: %w; give the agent's user a directory of its own", err)
	}
	dir, err := filepath.Abs(u.cfg.StateDir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return err
	}
	u.cfg.StateDir, u.slots = dir, slots{dir}
	if u.cfg.Source == nil {
		return nil
	}
	u.client, err = release.NewClient(release.ClientConfig{
		Source:    u.cfg.Source,
		Trust:     u.cfg.Trust,
		Name:      u.cfg.Name,
		StateFile: filepath.Join(dir, trustFile),

		MemoryLimit: u.cfg.MemoryLimit,
		Logger:      u.cfg.Logger,
	})
	return err
}

// load reads what the state directory holds about attempts.
func (u *Upgrader) load() (err error) {
	if u.journal, err = openJournal(u.cfg.StateDir); err != nil {
		return err
	}
	u.counted.Store(u.journal.totals)
	u.quarantine = quarantine{u.cfg.StateDir} // one that cannot be read refuses every release
	return nil
}
