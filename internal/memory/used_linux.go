package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/internal/cgroup"
)

// UsedBy measures the memory of process, "self" or a pid, with root in front of
// every path. The base is the smallest limit of the process's cgroup and those
// above it, and the usage is that of the group which sets it; without a limit
// below the host's memory, the base is the host.
func UsedBy(root, process string) (Used, error) {
	host, err := hostMemory(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return Used{}, err
	}
	found, err := cgroup.Find(root, process, "memory")
	if errors.Is(err, fs.ErrNotExist) {
		return host, nil // no cgroups here
	}
	if err != nil {
		return Used{}, err
	}
	limited, err := group{found}.limit(root)
	if err != nil {
		return Used{}, err
	}
	if limited.Limit < host.Limit {
		return limited, nil
	}
	return host, nil
}

func hostMemory(name string) (Used, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Used{}, err
	}
	total, ok := cgroup.Value(data, "MemTotal:")
	available, ok2 := cgroup.Value(data, "MemAvailable:")
	if !ok || !ok2 || total == 0 || total > math.MaxUint64/1024 {
		return Used{}, fmt.Errorf("%s: want MemTotal and MemAvailable in kB", name)
	}
	return Used{Bytes: 1024 * (total - min(available, total)), Limit: 1024 * total, Source: "host"}, nil
}

// group is a memory cgroup.
type group struct{ cgroup.Group }

// limit returns the tightest limit from dir up to the mount with the usage
// there; limit is MaxUint64 if there is none.
func (g group) limit(root string) (Used, error) {
	tight, at, err := g.tightest(root)
	if err != nil {
		return Used{}, err
	}
	if tight == math.MaxUint64 {
		return Used{Limit: tight}, nil
	}
	if tight == 0 {
		return Used{}, fmt.Errorf("the memory limit of %s is 0: no percentage of nothing", at)
	}
	used, err := g.used(root, at)
	if err != nil {
		return Used{}, err
	}
	return Used{Bytes: used, Limit: tight, Source: "cgroup " + g.Version() + " " + at}, nil
}

// used is the working set of the group at dir.
func (g group) used(root, dir string) (uint64, error) {
	usageFile, cacheKey := "memory.usage_in_bytes", "total_inactive_file"
	if g.V2 {
		usageFile, cacheKey = "memory.current", "inactive_file"
	}
	usage, err := count(filepath.Join(root, dir, usageFile))
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(root, dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	cache, ok := cgroup.Value(stat, cacheKey)
	if !ok {
		return 0, fmt.Errorf("%s/memory.stat: want a number for %s", dir, cacheKey)
	}
	return usage - min(cache, usage), nil
}

// limitOf is the limit of the group at dir alone.
func (g group) limitOf(root, dir string) (uint64, error) {
	name := "memory.limit_in_bytes"
	if g.V2 {
		name = "memory.max"
	}
	return count(filepath.Join(root, dir, name))
}

// tightest returns the smallest limit, MaxUint64 for none, and whose it is.
func (g group) tightest(root string) (limit uint64, at string, err error) {
	limit = math.MaxUint64
	for dir := range g.Up() {
		n, err := g.limitOf(root, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, "", err
		}
		// Of equal limits the upper one binds: its usage holds the lower's.
		if err == nil && n <= limit {
			limit, at = n, dir
		}
	}
	if !g.V2 {
		// Version 1 tells the limit of groups that a namespace hides.
		if stat, err := os.ReadFile(filepath.Join(root, g.Mount, "memory.stat")); err == nil {
			if n, ok := cgroup.Value(stat, "hierarchical_memory_limit"); ok && n <= limit {
				limit, at = n, g.Mount
			}
		}
	}
	return limit, at, nil
}

// count reads a file of one number or "max".
func count(name string) (uint64, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	if text == "max" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: want a number or max: %w", name, err)
	}
	return n, nil
}
