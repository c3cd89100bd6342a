package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// checkSocketDir refuses a directory in which somebody else could put a socket
// of their own in the place of ours.
func checkSocketDir(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("directory of the admin socket: %w: make it, writable for nobody but the agent's user", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("directory of the admin socket: %s is none", dir)
	}
	if perm := info.Mode().Perm(); perm&0o002 != 0 {
		return fmt.Errorf("directory of the admin socket: %s has mode %04o, so anybody could put a socket of their own there: choose one that is writable for nobody but the agent's user", dir, perm)
	}
	return nil
}

// socketMode is 0600, unless others have been granted something, or show
// tokens: then everybody may knock, and who they are decides.
func socketMode(cfg Config) fs.FileMode {
	others := func(g Grant) bool {
		kind, _ := g.split()
		return kind == kindUID || kind == kindGID || g.Subject == anyone
	}
	if cfg.Tokens.given() || slices.ContainsFunc(cfg.Allow, others) {
		return 0o666
	}
	return 0o600
}

// settle brings the file of the socket to the mode that is wanted, where a
// predecessor made it with another, or the system makes it with none. One of
// the service manager's, which only that may change, stays as its unit says:
// who calls is told by the system all the same.
func settle(path string, mode fs.FileMode) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSocket == 0 {
		// Chmod would follow a link to wherever it leads.
		return fmt.Errorf("the admin socket %s has been replaced by a file that is none (%s): remove it, and see who may write to its directory", path, info.Mode().Type())
	}
	if err == nil && info.Mode().Perm() != mode {
		err = os.Chmod(path, mode)
	}
	if tellsPeers && errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
