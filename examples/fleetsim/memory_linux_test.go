package fleetsim_test

import (
	"os"
	"syscall"
)

// roomInMemory is what the etcd and the reports of all fleets need, with room.
const roomInMemory = 2 << 30

// inMemory has temporary files lie in memory where there is room: hundreds of
// fleets write reports and an etcd, and what a disk makes of that is another
// question.
func inMemory() error {
	const dir = "/dev/shm"
	var fs syscall.Statfs_t
	known := syscall.Statfs(dir, &fs) == nil
	if known && os.Getenv("TMPDIR") == "" && fs.Bavail*uint64(fs.Bsize) >= roomInMemory { //nolint:gosec // a size of blocks is positive
		return os.Setenv("TMPDIR", dir)
	}
	return nil
}
