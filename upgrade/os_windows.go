package upgrade

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

func socketPair() (incumbent, successor *os.File, err error) {
	return nil, nil, fmt.Errorf("handover socket: %w", ErrNotSupported)
}

func execute(path string) error {
	return fmt.Errorf("exec %s: %w", path, ErrNotSupported)
}

var errTextBusy = windows.ERROR_SHARING_VIOLATION

var errReadOnly = windows.ERROR_WRITE_PROTECT

func isBrokenPipe(error) bool { return false }
