//go:build unix

package ownership

import (
	"fmt"
	"os"
	"syscall"
)

// Check refuses a directory of another user: the agent, which runs as that
// one, could not read what this process writes there.
func Check(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user with id %d, this process runs as %d, whose files the agent could not read: run it as that user", dir, st.Uid, os.Geteuid())
	}
	return nil
}
