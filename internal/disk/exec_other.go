//go:build !linux

package disk

import "errors"

func mountOf(string) (mount, error) { return mount{}, errors.ErrUnsupported }
