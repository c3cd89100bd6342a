package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
)

// chargePatience is what a predecessor gets, besides StopTimeout, to hand over
// or stop its plugins.
const chargePatience = time.Minute

// charge is the right to look after the plugins of a state directory. One
// Manager has it at a time.
type charge struct {
	f *os.File
	// id tells the state directory from a copy of it.
	id string
}

// takeCharge waits for whoever is in charge of dir.
func takeCharge(ctx context.Context, dir string, patience time.Duration) (*charge, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = filelock.Wait(ctx, f, patience); filelock.Held(err) && ctx.Err() == nil {
		err = fmt.Errorf("another host has been in charge of it for %s; stop that one, or give each its own: %w", patience, err)
	}
	var fi os.FileInfo
	if err == nil {
		fi, err = f.Stat()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &charge{f: f, id: inode(fi)}, nil
}

// chargeID is the id of the charge of dir, whoever has it.
func chargeID(dir string) (string, error) {
	fi, err := os.Stat(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	return inode(fi), nil
}

func (c *charge) release() { _ = c.f.Close() }
