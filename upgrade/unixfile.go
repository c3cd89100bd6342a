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

// fileKept begins the name under which a Unix socket travels whose file stays
// until Close. As a file, and not as a listener: tableflip unlinks those of
// listeners as soon as it is stopped.
const fileKept = "perennial-kept-"

// openKept finds a Unix socket as openStream does, and keeps its file.
func (u *Upgrader) openKept(listen func() (net.Listener, error), name, network, addr string) (net.Listener, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.activated.claim(name, network, addr); a != nil {
		return net.FileListener(a.file)
	}
	f, err := u.flip.File(fileKept + addr)
	if err != nil {
		return nil, err
	}
	if f != nil {
		ln, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err == nil {
			err = u.keep(addr)
		}
		if err == nil {
			return ln, nil
		}
		if ln != nil {
			err = errors.Join(err, ln.Close())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Somebody has deleted the file, and nobody can connect to the socket
		// any more: that must not keep this release from starting.
	}
	ln, err := listen()
	if inUse(err) && removeDead(network, addr) {
		ln, err = listen()
	}
	if err != nil {
		return nil, err
	}
	shared, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(unfit(network), ln.Close())
	}
	shared.SetUnlinkOnClose(false)
	if f, err = shared.File(); err == nil {
		err = errors.Join(u.flip.AddFile(fileKept+addr, f), f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close(), os.Remove(addr))
	}
	return ln, errors.Join(u.made(network, addr), u.keep(addr))
}

// keep has Close remove the file, if this process is in charge then. u.mu is
// held.
func (u *Upgrader) keep(path string) error {
	info, err := os.Lstat(path)
	if err == nil {
		u.keptFiles[path] = info
	}
	return err
}

// unkeep removes the files of the sockets that were kept. After a swap they are
// the successor's, but for those on which nobody listens any more: it has not
// asked for them.
func (u *Upgrader) unkeep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, info := range u.keptFiles {
		if u.Successor() == 0 {
			removeSame(path, info)
		} else {
			removeDead("unix", path)
		}
	}
}
