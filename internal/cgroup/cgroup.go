// Package cgroup finds the control group that bounds a process, version 1 or 2,
// and reads its files.
package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Group is where the files of a process's group are.
type Group struct {
	// V2 is true of version 2.
	V2 bool
	// Mount is where the hierarchy is mounted, Dir the group: Mount or below.
	Mount, Dir string
}

// Version is "v1" or "v2".
func (g Group) Version() string {
	if g.V2 {
		return "v2"
	}
	return "v1"
}

// Up yields Dir and what is above it, up to Mount.
func (g Group) Up() iter.Seq[string] {
	return func(yield func(string) bool) {
		for dir := g.Dir; yield(dir); dir = path.Dir(dir) {
			if dir == g.Mount || dir == "/" {
				return
			}
		}
	}
}

// Find returns the group of process, "self" or a pid, for controller, such as
// "memory", with root in front of every path. The error is fs.ErrNotExist if
// there is none that can be seen.
func Find(root, process, controller string) (Group, error) {
	own, err := os.ReadFile(filepath.Join(root, "proc", process, "cgroup"))
	if err != nil {
		return Group{}, err
	}
	mounts, err := os.ReadFile(filepath.Join(root, "proc", process, "mountinfo"))
	if err != nil {
		return Group{}, err
	}
	v1, v2 := ownPaths(own, controller)
	// In hybrid mode both exist, and version 1 has the controller.
	if v1 != "" {
		if g, ok := mounted(mounts, v1, controller); ok {
			return g, nil
		}
	}
	if v2 != "" {
		if g, ok := mounted(mounts, v2, ""); ok {
			return g, nil
		}
	}
	return Group{}, fmt.Errorf("no mounted %s cgroup: %w", controller, fs.ErrNotExist)
}

// ownPaths reads /proc/self/cgroup: lines of "id:controllers:path".
func ownPaths(data []byte, controller string) (v1, v2 string) {
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			v2 = parts[2]
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			if c == controller {
				v1 = parts[2]
			}
		}
	}
	return v1, v2
}

// mounted finds where the group at own is visible: in the mount of controller
// of version 1, or, without one, in that of version 2. Of several mounts, as in
// a container that has those of its host as well, the first one counts that
// shows the group itself.
func mounted(mounts []byte, own, controller string) (first Group, found bool) {
	for m := range Mounts(mounts) {
		wanted := m.Type == "cgroup2"
		if controller != "" {
			wanted = m.Type == "cgroup" && strings.Contains(","+m.Options+",", ","+controller+",")
		}
		if !wanted {
			continue
		}
		mount := path.Clean(m.Point)
		rest, shown := below(m.Root, own)
		g := Group{V2: controller == "", Mount: mount, Dir: path.Join(mount, rest)}
		if shown {
			return g, true
		}
		if !found {
			first, found = g, true
		}
	}
	return first, found
}

// Mount is a line of mountinfo.
type Mount struct {
	// Root is what of the file system is mounted at Point.
	Root, Point string
	Type        string
	// Options are those of the file system itself.
	Options string
}

// Mounts yields the mounts in data, of /proc/<pid>/mountinfo: lines of
// "id parent dev root mountpoint options… - type source superoptions".
func Mounts(data []byte) iter.Seq[Mount] {
	return func(yield func(Mount) bool) {
		for line := range strings.Lines(string(data)) {
			before, after, ok := strings.Cut(line, " - ")
			left, right := strings.Fields(before), strings.Fields(after)
			if !ok || len(left) < 5 || len(right) < 3 {
				continue
			}
			if !yield(Mount{unescape(left[3]), unescape(left[4]), right[0], right[2]}) {
				return
			}
		}
	}
}

// below is own relative to the mount's root. A group outside of what is
// mounted, as in a container that sees the host's names, is not shown, and the
// mount's root itself stands for it.
func below(base, own string) (rest string, shown bool) {
	if own == "/.." || strings.HasPrefix(own, "/../") {
		return "", false
	}
	if base == "/" {
		return own, true
	}
	rest, ok := strings.CutPrefix(own, base)
	if !ok || (rest != "" && rest[0] != '/') {
		return "", false
	}
	return rest, true
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Value returns the number after key in lines of "key number …".
func Value(data []byte, key string) (uint64, bool) {
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
