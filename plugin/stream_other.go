//go:build !linux

package plugin

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// makeStream makes a pipe: the runtime cannot wait for a FIFO everywhere. A
// plugin's output ends with its host here.
func makeStream(string) (r, w *os.File, err error) { return os.Pipe() }

func openStream(path string) (*os.File, error) {
	return nil, fmt.Errorf("%s: the output of a process of another host: %w", path, errors.ErrUnsupported)
}

// interruptStream closes the stream where it cannot have a deadline.
func interruptStream(r *os.File) {
	if r.SetReadDeadline(time.Unix(1, 0)) != nil {
		_ = r.Close()
	}
}
