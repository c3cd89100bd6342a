package memory

import (
	"math"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/cgroup"
)

// Now returns what is free: the system's MemAvailable, or what the limits of
// the process's cgroup, version 1 or 2, and of those above it leave, whichever
// is less. Page cache that a cgroup could give back counts as free.
func Now() (Free, error) { return read("/") }

func read(root string) (Free, error) {
	host, err := hostMemory(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return Free{}, err
	}
	free := Free{Bytes: signed(host.Limit - host.Bytes), Where: "MemAvailable of this host"}
	found, err := cgroup.Find(root, "self", "memory")
	if err != nil {
		return free, nil //nolint:nilerr // a kernel without cgroups, or a container that sees none
	}
	g := group{found}
	for dir := range g.Up() {
		if left, limited := g.room(root, dir); limited && left < free.Bytes {
			free = Free{Bytes: left, Where: "the limit of cgroup " + dir}
		}
	}
	return free, nil
}

// room is what the limit of the group at dir leaves; not limited is also one
// that cannot be read.
func (g group) room(root, dir string) (left int64, limited bool) {
	limit, err := g.limitOf(root, dir)
	if err != nil || limit == math.MaxUint64 {
		return 0, false
	}
	used, err := g.used(root, dir)
	if err != nil {
		return 0, false
	}
	return signed(limit - min(used, limit)), true
}

func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) } //nolint:gosec // bounded
