//go:build unix

package upgrade

import (
	"os"

	"golang.org/x/sys/unix"
)

// listening tells a listening socket from a connection.
func listening(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	accepts := 0
	failed := raw.Control(func(fd uintptr) {
		accepts, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	})
	return failed == nil && err == nil && accepts != 0
}
