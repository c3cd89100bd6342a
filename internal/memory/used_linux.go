package memory

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
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
	g, err := findGroup(root, process)
	if errors.Is(err, fs.ErrNotExist) {
		return host, nil // no cgroups here
	}
	if err != nil {
		return Used{}, err
	}
	limited, err := g.limit(root)
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
	total, ok := value(data, "MemTotal:")
	available, ok2 := value(data, "MemAvailable:")
	if !ok || !ok2 || total == 0 || total > math.MaxUint64/1024 {
		return Used{}, fmt.Errorf("%s: want MemTotal and MemAvailable in kB", name)
	}
	return Used{Bytes: 1024 * (total - min(available, total)), Limit: 1024 * total, Source: "host"}, nil
}

// value returns the number after key in lines of "key number …".
func value(data []byte, key string) (uint64, bool) {
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		words := strings.Fields(s.Text())
		if len(words) >= 2 && words[0] == key {
			n, err := strconv.ParseUint(words[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// group is the directory of a process's memory cgroup.
type group struct {
	v2         bool
	mount, dir string // dir is mount or below it
}

// findGroup returns an error that is fs.ErrNotExist if there is none.
func findGroup(root, process string) (group, error) {
	own, err := os.ReadFile(filepath.Join(root, "proc", process, "cgroup"))
	if err != nil {
		return group{}, err
	}
	mounts, err := os.ReadFile(filepath.Join(root, "proc", process, "mountinfo"))
	if err != nil {
		return group{}, err
	}
	v1, v2 := ownPaths(own)
	// In hybrid mode both exist, and version 1 has the memory controller.
	if v1 != "" {
		if g, ok := mounted(mounts, v1, false); ok {
			return g, nil
		}
	}
	if v2 != "" {
		if g, ok := mounted(mounts, v2, true); ok {
			return g, nil
		}
	}
	return group{}, fmt.Errorf("no mounted memory cgroup: %w", fs.ErrNotExist)
}

// ownPaths reads /proc/self/cgroup: lines of "id:controllers:path".
func ownPaths(data []byte) (v1, v2 string) {
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			v2 = parts[2]
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "memory" {
				v1 = parts[2]
			}
		}
	}
	return v1, v2
}

// mounted finds where the group at own is visible. mountinfo has lines of
// "id parent dev root mountpoint options… - type source superoptions".
func mounted(mounts []byte, own string, v2 bool) (group, bool) {
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		isV1 := right[0] == "cgroup" && strings.Contains(","+right[2]+",", ",memory,")
		if v2 != (right[0] == "cgroup2") || (!v2 && !isV1) {
			continue
		}
		base, mount := unescape(left[3]), path.Clean(unescape(left[4]))
		return group{v2: v2, mount: mount, dir: path.Join(mount, below(base, own))}, true
	}
	return group{}, false
}

// below is own relative to the mount's root. A group outside of what is
// mounted, as in a container that sees the host's names, stands for the
// mount's root itself.
func below(base, own string) string {
	if own == "/.." || strings.HasPrefix(own, "/../") {
		return ""
	}
	if base == "/" {
		return own
	}
	rest, ok := strings.CutPrefix(own, base)
	if !ok || (rest != "" && rest[0] != '/') {
		return ""
	}
	return rest
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// limit returns the tightest limit from dir up to the mount with the usage
// there; limit is MaxUint64 if there is none.
func (g group) limit(root string) (Used, error) {
	version, usageFile, cacheKey := "v1", "memory.usage_in_bytes", "total_inactive_file"
	if g.v2 {
		version, usageFile, cacheKey = "v2", "memory.current", "inactive_file"
	}
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
	used, err := count(filepath.Join(root, at, usageFile))
	if err != nil {
		return Used{}, err
	}
	stat, err := os.ReadFile(filepath.Join(root, at, "memory.stat"))
	if err != nil {
		return Used{}, err
	}
	cache, ok := value(stat, cacheKey)
	if !ok {
		return Used{}, fmt.Errorf("%s/memory.stat: want a number for %s", at, cacheKey)
	}
	return Used{Bytes: used - min(cache, used), Limit: tight, Source: "cgroup " + version + " " + at}, nil
}

// tightest returns the smallest limit, MaxUint64 for none, and whose it is.
func (g group) tightest(root string) (limit uint64, at string, err error) {
	name := "memory.limit_in_bytes"
	if g.v2 {
		name = "memory.max"
	}
	limit = math.MaxUint64
	for dir := g.dir; ; dir = path.Dir(dir) {
		n, err := count(filepath.Join(root, dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, "", err
		}
		// Of equal limits the upper one binds: its usage holds the lower's.
		if err == nil && n <= limit {
			limit, at = n, dir
		}
		if dir == g.mount || dir == "/" {
			break
		}
	}
	if !g.v2 {
		// Version 1 tells the limit of groups that a namespace hides.
		if stat, err := os.ReadFile(filepath.Join(root, g.mount, "memory.stat")); err == nil {
			if n, ok := value(stat, "hierarchical_memory_limit"); ok && n <= limit {
				limit, at = n, g.mount
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
