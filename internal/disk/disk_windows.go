package disk

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Free returns the bytes that this user may still write below dir.
func Free(dir string) (int64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(min(free, 1<<62)), nil
}

// UseOf returns how full the file system of dir is.
func UseOf(dir string) (Use, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Use{}, err
	}
	var free, all uint64 // for this user
	if err := windows.GetDiskFreeSpaceEx(path, &free, &all, nil); err != nil {
		return Use{}, err
	}
	return Use{Used: all - min(free, all), Usable: all}, nil
}

// IsFull reports whether err says that a file system or a quota is full.
func IsFull(err error) bool { return errors.Is(err, windows.ERROR_DISK_FULL) }
