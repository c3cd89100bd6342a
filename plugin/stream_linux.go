package plugin

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// makeStream makes a FIFO and opens its two ends.
func makeStream(path string) (r, w *os.File, err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, nil, fmt.Errorf("FIFO %s: %w", path, err)
	}
	// Open for reading too: without a host the plugin's writes wait and do not
	// fail. Not through package os, which would leave it non-blocking.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("FIFO %s: %w", path, err)
	}
	w = os.NewFile(uintptr(fd), path)
	if r, err = openStream(path); err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return r, w, nil
}

// openStream opens the reading end of a FIFO that a process writes to.
func openStream(path string) (*os.File, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	fi, err := r.Stat()
	if err == nil && fi.Mode().Type() != os.ModeNamedPipe {
		err = fmt.Errorf("%s: want a FIFO, found %s", path, fi.Mode())
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// interruptStream ends a Read, of now or later, and leaves the descriptor to
// the reader.
func interruptStream(r *os.File) { _ = r.SetReadDeadline(time.Unix(1, 0)) }
