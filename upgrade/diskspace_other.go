//go:build !(linux || darwin || freebsd || windows)

package upgrade

// freeSpace is not known here; a full disk shows when it is written to.
func freeSpace(string) (int64, error) { return 0, ErrNotSupported }

func isDiskFull(error) bool { return false }
