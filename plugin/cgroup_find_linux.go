package plugin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// findCgroups looks for the delegated group of this process. owner is the
// directory of the rooms.
func findCgroups(owner string, log *slog.Logger) (*cgroups, error) {
	mount, top, err := cgroupMount()
	if err != nil {
		return nil, err
	}
	own, err := cgroupOf("self")
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(top, own)
	if err != nil || strings.HasPrefix(rel, "..") {
		return nil, fmt.Errorf("cgroup %s of this process is not below %s, which is mounted on %s", own, top, mount)
	}
	home, err := delegated(mount, filepath.Join(mount, rel))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(owner))
	return &cgroups{home: home, tag: fmt.Sprintf("%x", sum[:4]), log: log}, nil
}

// cgroupMount returns where the unified hierarchy is mounted, and which of its
// groups is seen there.
func cgroupMount() (mount, top string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		// 30 23 0:26 /top /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw
		fields := strings.Fields(lines.Text())
		if i := slices.Index(fields, "-"); i >= 5 && i+1 < len(fields) && fields[i+1] == "cgroup2" {
			return fields[4], fields[3], nil
		}
	}
	return "", "", errors.New("cgroup version 2 is not mounted")
}

// cgroupOf returns the group of a process in the unified hierarchy.
func cgroupOf(pid string) (string, error) {
	data, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", errors.New("there is no cgroup version 2")
}

// delegated returns the group at or above own that this process may divide. A
// group that merely can be written to is its service manager's, which may undo
// what others do there.
func delegated(mount, own string) (string, error) {
	parent := filepath.Dir(own)
	var home string
	switch {
	case own == mount: // the root, or that of a container
		home = own
	case filepath.Base(own) == hostGroup, hasDelegate(parent) && parent != mount:
		home = parent
	case hasDelegate(own):
		home = own
	default:
		return "", fmt.Errorf("cgroup %s is not delegated to this process; with systemd, set Delegate=yes in its unit", own)
	}
	if err := unix.Access(home, unix.W_OK); err != nil {
		return "", fmt.Errorf("cgroup %s cannot be divided by this process: %w", home, err)
	}
	return home, nil
}

// hasDelegate looks for the mark that systemd leaves.
func hasDelegate(dir string) bool {
	value := make([]byte, 8)
	for _, attr := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, attr, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}
