package upgrade

import (
	"fmt"
	"os"
)

type stdio struct{ out, err, read *os.File }

func openStdio() (*stdio, error) { return nil, fmt.Errorf("log capture: %w", ErrNotSupported) }

func (*stdio) redirect() error { return ErrNotSupported }

func (*stdio) restore() error { return nil }

func (*stdio) close() error { return nil }

func restoreStdio(_, _ *os.File) error { return ErrNotSupported }
