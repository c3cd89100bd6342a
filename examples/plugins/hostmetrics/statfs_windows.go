package main

import (
	"errors"
	"fmt"
)

func statfs(mount string) (filesystem, error) {
	return filesystem{}, fmt.Errorf("file system %s: %w", mount, errors.ErrUnsupported)
}
