package disk

import "golang.org/x/sys/unix"

func mountOf(dir string) (mount, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return mount{}, err
	}
	return mount{readOnly: s.Flags&unix.ST_RDONLY != 0, noExec: s.Flags&unix.ST_NOEXEC != 0}, nil
}
