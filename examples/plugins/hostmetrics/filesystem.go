package main

import (
	"fmt"
	"strings"

	"github.com/prometheus/procfs"
)

// maxFilesystems bounds how many are asked at once.
const maxFilesystems = 500

// filesystem is one to be asked.
type filesystem struct {
	device, kind, mount string
	readOnly            bool
}

// usage is what a file system holds.
type usage struct {
	size, free, available uint64 // bytes; available to unprivileged users
	files, filesFree      uint64
}

func (h *sampler) filesystems(s *sample) error {
	var mounts []*procfs.MountInfo
	var err error
	if h.self == ownProcess {
		mounts, err = h.proc.GetMounts()
	} else {
		mounts, err = h.proc.GetProcMounts(1)
	}
	if err != nil {
		return fmt.Errorf("proc/%s/mountinfo: %w", h.self, err)
	}
	chosen := holders(mounts)
	if len(h.Mounts) > 0 {
		chosen = holding(mounts, h.Mounts)
	}
	if n := len(chosen) - maxFilesystems; n > 0 {
		s.Dropped += n
		chosen = chosen[:maxFilesystems]
	}
	paths := make([]string, len(chosen))
	for i, f := range chosen {
		paths[i] = h.path(f.mount)
	}
	for i, answer := range h.stats.ask(paths) {
		f := chosen[i]
		if answer.err != nil {
			s.fail("file system "+f.mount, answer.err)
			continue
		}
		f.add(s, answer.usage)
	}
	return nil
}

func (f filesystem) add(s *sample, u usage) {
	labels := []string{"device", f.device, "fstype", f.kind, "mountpoint", f.mount}
	readOnly := 0.0
	if f.readOnly {
		readOnly = 1
	}
	for _, field := range []struct {
		name  string
		value float64
	}{
		{"size_bytes", float64(u.size)},
		{"free_bytes", float64(u.free)},
		{"avail_bytes", float64(u.available)},
		{"files", float64(u.files)},
		{"files_free", float64(u.filesFree)},
		{"readonly", readOnly},
	} {
		s.add("node_filesystem_"+field.name, field.value, labels...)
	}
}

func filesystemOf(m *procfs.MountInfo, mount string) filesystem {
	_, readOnly := m.Options["ro"]
	return filesystem{device: unescape(m.Source), kind: m.FSType, mount: mount, readOnly: readOnly}
}

// holders are the file systems that hold files, each once, wherever else it
// is mounted too.
func holders(mounts []*procfs.MountInfo) []filesystem {
	top := map[string]*procfs.MountInfo{}
	for _, m := range mounts {
		top[m.MountPoint] = m // of two at one place the later hides the earlier
	}
	var all []filesystem
	seen := map[string]bool{}
	for _, m := range mounts {
		mount := unescape(m.MountPoint)
		if top[m.MountPoint] != m || seen[m.MajorMinorVer] || !holdsFiles(m.FSType, mount) {
			continue
		}
		seen[m.MajorMinorVer] = true
		all = append(all, filesystemOf(m, mount))
	}
	return all
}

// holding are those of paths, which need not be mount points.
func holding(mounts []*procfs.MountInfo, paths []string) []filesystem {
	all := make([]filesystem, len(paths))
	for i, p := range paths {
		all[i].mount = p
		longest := 0
		for _, m := range mounts {
			mount := unescape(m.MountPoint)
			within := p == mount || strings.HasPrefix(p, strings.TrimSuffix(mount, "/")+"/")
			if within && len(mount) >= longest {
				longest, all[i] = len(mount), filesystemOf(m, p)
			}
		}
	}
	return all
}

// holdsFiles is false for what the kernel makes up, images that are always
// full, and the layers of containers, which are all on the same disk.
func holdsFiles(kind, mount string) bool {
	switch kind {
	case "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
		"fuse.lxcfs", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs",
		"selinuxfs", "squashfs", "erofs", "sysfs", "tracefs":
		return false
	case "overlay":
		return mount == "/"
	}
	return true
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
