package upgrade

import (
	"os"
	"path/filepath"
)

// outside is what of a state directory others change while its agent runs:
// operators the hold and the quarantine, and collection the slots.
type outside [3]mark

// mark tells one content of a file or directory from another.
type mark struct{ modified, size int64 }

func outsideOf(stateDir string) (now outside) {
	for i, name := range []string{holdFile, quarantineFile, slotsDir} {
		if info, err := os.Stat(filepath.Join(stateDir, name)); err == nil {
			now[i] = mark{info.ModTime().UnixNano(), info.Size()}
		}
	}
	return now
}

// notice publishes what was changed from outside and reports whether a
// request waits.
func (u *Upgrader) notice() bool {
	if outsideOf(u.cfg.StateDir) != u.seen {
		u.publish(func(*Status) {})
	}
	return u.newer() != nil
}
