package upgrade

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func isUnix(network string) bool { return strings.HasPrefix(network, "unix") }

// hasFile reports whether a socket has a file: it is a Unix socket outside
// the abstract namespace.
func hasFile(network, addr string) bool {
	return isUnix(network) && addr != "" && !strings.HasPrefix(addr, "@") && addr[0] != 0
}

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// deadDial bounds the look at a Unix socket.
const deadDial = time.Second

// removeDead removes the file of a Unix socket that nobody listens on any
// more: whoever did was killed. It reports whether it has.
func removeDead(network, addr string) bool {
	if !hasFile(network, addr) {
		return false
	}
	info, err := os.Lstat(addr)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return false
	}
	look := net.Dialer{Timeout: deadDial}
	conn, err := look.DialContext(context.Background(), network, addr)
	if err == nil {
		_ = conn.Close() // it was only looked whether somebody answers
		return false
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		// A full backlog, or a socket of another kind: somebody is there.
		return false
	}
	return removeSame(addr, info)
}

// removeSame removes path while it is the file that info describes.
func removeSame(path string, info fs.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, info) && os.Remove(path) == nil
}

// made remembers the file of a socket that this process has made, and not
// been given. u.mu is held.
func (u *Upgrader) made(network, addr string) error {
	if !hasFile(network, addr) {
		return nil
	}
	info, err := os.Lstat(addr)
	u.socketFiles[addr] = info
	return err
}

// unmake removes the socket files that a successor made which is not wanted.
// Those that it was given are its incumbent's.
func (u *Upgrader) unmake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, info := range u.socketFiles {
		removeSame(path, info)
	}
}
