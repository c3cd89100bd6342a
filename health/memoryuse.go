package health

import "github.com/perennial-go/perennial/internal/memory"

// MemoryUse is one measurement of memory: the working set, the limit that it
// counts against, both in bytes, and what the limit is of.
type MemoryUse = memory.Used

// MemoryOf measures the memory of process, "self" or a pid, as the indicator
// MemoryPercent does; root is put before /proc and /sys, "/" or the directory where a
// container finds those of its host. The base is the smallest limit of the
// process's cgroup and those above it, version 1 or 2, and without one the
// host's memory. On other systems than Linux the error wraps
// errors.ErrUnsupported.
func MemoryOf(root, process string) (MemoryUse, error) { return memory.UsedBy(root, process) }
