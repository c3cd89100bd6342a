//go:build unix

package upgrade

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// stdio lets the incumbent read what the successor prints from its very
// first byte, also when it dies before main. tableflip hands on descriptors
// 1 and 2, so while the successor is started these name a pipe. What this
// process prints in that moment takes the same way and still arrives.
//
// The successor is given the real descriptors as well and returns to them at
// commit, and it is given the pipe's reading end, so that a write after the
// incumbent's death is never a SIGPIPE.
type stdio struct {
	out, err    *os.File // the real ones
	read, write *os.File // the pipe; write is nil once restored
}

func openStdio() (*stdio, error) {
	out, err := dupFile(1, "stdout")
	if err != nil {
		return nil, err
	}
	errFile, err := dupFile(2, "stderr")
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, out.Close(), errFile.Close())
	}
	return &stdio{out: out, err: errFile, read: r, write: w}, nil
}

func dupFile(fd int, name string) (*os.File, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(dup), name), nil
}

// redirect points descriptors 1 and 2 to the pipe.
func (s *stdio) redirect() error {
	fd := int(s.write.Fd())
	return errors.Join(dupOver(fd, 1), dupOver(fd, 2))
}

// restore points them back and gives up the pipe's writing end.
func (s *stdio) restore() error {
	if s.write == nil {
		return nil
	}
	err := errors.Join(restoreStdio(s.out, s.err), s.write.Close())
	s.write = nil
	return err
}

// restoreStdio makes out and err the process's descriptors 1 and 2.
func restoreStdio(out, err *os.File) error {
	return errors.Join(dupOver(int(out.Fd()), 1), dupOver(int(err.Fd()), 2))
}

// close comes after restore.
func (s *stdio) close() error {
	return errors.Join(s.out.Close(), s.err.Close(), s.read.Close())
}
