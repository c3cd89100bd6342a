//go:build unix

package plugin

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep the opening of a pipe from blocking.
const openFlags = syscall.O_NONBLOCK

// trusted refuses what somebody else than root and the host's own user can
// change: who can decides what the host executes.
func trusted(fi fs.FileInfo) error {
	if fi.Mode().Perm()&0o022 != 0 {
		who := "its group"
		if fi.Mode().Perm()&0o002 != 0 {
			who = "everybody"
		}
		return fmt.Errorf("%s can write to it (mode %s), and so decide what is executed; chmod go-w it", who, fi.Mode())
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if own := os.Geteuid(); st.Uid != 0 && int64(st.Uid) != int64(own) {
		return fmt.Errorf("it belongs to user %d, who so decides what is executed; want root or user %d, who runs this host; chown it", st.Uid, own)
	}
	return nil
}

// inode tells a file from another of the same name, and its owner.
func inode(fi fs.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(st.Dev, st.Ino, st.Uid, st.Gid)
	}
	return ""
}
