package plugin

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
)

// chargePatience is what a predecessor gets, besides StopTimeout, to hand over
// or stop its plugins, before it is told that it does not.
const chargePatience = time.Minute

// charge is the right to look after the plugins of a state directory. One
// Manager has it at a time.
type charge struct {
	f *os.File
	// id tells the state directory from a copy of it.
	id string
}

// takeCharge waits for whoever is in charge of dir, and says so each time that
// patience is over: a predecessor that stands still is no reason for a host that
// serves to end.
func takeCharge(ctx context.Context, dir string, patience time.Duration, log *slog.Logger) (*charge, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = filelock.Wait(ctx, f, patience); !filelock.Held(err) || ctx.Err() != nil {
			break
		}
		log.Warn("another host is in charge of the plugins and does not hand them over: stop it, or give each a state directory of its own", "path", dir, "duration", patience)
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
