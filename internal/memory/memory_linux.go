package memory

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
)

// Now returns what is free: the system's MemAvailable, or what the limits of
// the cgroup (version 2) and of those above it leave, whichever is less. Page
// cache that a cgroup could give back counts as free.
func Now() (Free, error) { return read("/proc", "/sys/fs/cgroup") }

func read(proc, cgroups string) (Free, error) {
	meminfo, err := os.ReadFile(path.Join(proc, "meminfo"))
	if err != nil {
		return Free{}, err
	}
	kib, ok := field(meminfo, "MemAvailable:")
	if !ok {
		return Free{}, errors.ErrUnsupported // Linux before 3.14
	}
	free := Free{Bytes: kib << 10, Where: "MemAvailable of this host"}
	own, err := os.ReadFile(path.Join(proc, "self", "cgroup"))
	if err != nil {
		return free, nil //nolint:nilerr // a kernel without cgroups
	}
	_, group, _ := strings.Cut(string(own), "0::")
	group, _, _ = strings.Cut(group, "\n")
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		if left, limited := room(path.Join(cgroups, group)); limited && left < free.Bytes {
			free = Free{Bytes: left, Where: "memory.max of cgroup " + group}
		}
		if group == "/" {
			return free, nil
		}
	}
}

// room is what a cgroup's limit leaves; not limited is also one that cannot
// be read, as in a container that does not see it.
func room(dir string) (left int64, limited bool) {
	limit, err := number(path.Join(dir, "memory.max"))
	if err != nil {
		return 0, false
	}
	used, err := number(path.Join(dir, "memory.current"))
	if err != nil {
		return 0, false
	}
	if stat, err := os.ReadFile(path.Join(dir, "memory.stat")); err == nil {
		cache, _ := field(stat, "inactive_file ")
		used -= cache
	}
	return max(0, limit-max(0, used)), true
}

// number reads a file that holds one; "max" is an error.
func number(name string) (int64, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// field returns the first number behind a line's beginning.
func field(data []byte, name string) (int64, bool) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), name)
		if !found {
			continue
		}
		words := strings.Fields(rest)
		if len(words) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(words[0], 10, 64)
		return n, err == nil
	}
	return 0, false
}
