//go:build unix

package release

import (
	"io/fs"
	"os"
	"syscall"
)

// openNoWait keeps a pipe from blocking; regular files do not mind.
const openNoWait = syscall.O_NONBLOCK

// guarded reports whether nobody but this user and root can change the file.
func guarded(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == os.Geteuid() || stat.Uid == 0) && info.Mode().Perm()&0o022 == 0
}

// exclusive reports whether the file is a plain one of this user, which nobody
// else can write to, with no other name: writing to it changes nothing else.
func exclusive(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && stat.Nlink == 1 && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0
}
