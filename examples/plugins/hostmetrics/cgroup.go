package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxEntries bounds what is read of one directory of groups.
const maxEntries = 10_000

// hierarchies are where groups are found: one directory in version 2, one for
// each controller in version 1. In the hybrid form both exist, and the
// controllers are in version 1.
type hierarchies struct {
	unified              string
	cpu, cpuacct, memory string
	blkio, pids          string
}

func (h *sampler) cgroups(s *sample) error {
	if len(h.Cgroups) == 0 || h.MaxCgroups == 0 {
		return nil
	}
	trees, err := findHierarchies(h.path("sys", "fs", "cgroup"))
	if err != nil {
		return err
	}
	names, err := trees.expand(h.Cgroups)
	if n := len(names) - h.MaxCgroups; n > 0 {
		s.Dropped += n
		names = names[:h.MaxCgroups]
	}
	devices := h.deviceNames()
	for _, name := range names {
		g := group{sample: s, id: name, devices: devices}
		if trees.unified != "" {
			g.version2(filepath.Join(trees.unified, name))
		} else {
			g.version1(trees, name)
		}
		s.fail("cgroup "+name, errors.Join(g.errs...))
	}
	return err
}

func findHierarchies(dir string) (hierarchies, error) {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
		return hierarchies{unified: dir}, nil
	}
	var t hierarchies
	found := false
	for _, c := range []struct {
		tree *string
		name string
	}{{&t.cpu, "cpu"}, {&t.cpuacct, "cpuacct"}, {&t.memory, "memory"}, {&t.blkio, "blkio"}, {&t.pids, "pids"}} {
		// Where cpu and cpuacct are one, both names lead there.
		if fi, err := os.Stat(filepath.Join(dir, c.name)); err == nil && fi.IsDir() {
			*c.tree, found = filepath.Join(dir, c.name), true
		}
	}
	if !found {
		return t, fmt.Errorf("%s: want groups of version 2, or of version 1's controllers: %w", dir, fs.ErrNotExist)
	}
	return t, nil
}

// expand finds the groups that match, in any hierarchy, in order.
func (t hierarchies) expand(patterns []string) ([]string, error) {
	found := map[string]bool{}
	var errs []error
	for _, root := range []string{t.unified, t.cpu, t.cpuacct, t.memory, t.blkio, t.pids} {
		if root == "" {
			continue
		}
		for _, p := range patterns {
			errs = append(errs, expand(root, "/", strings.FieldsFunc(p, func(r rune) bool { return r == '/' }), found))
		}
	}
	return slices.Sorted(maps.Keys(found)), errors.Join(errs...)
}

// expand adds the groups below at that match the levels that are left.
func expand(root, at string, levels []string, found map[string]bool) error {
	if len(levels) == 0 {
		found[at] = true
		return nil
	}
	names, err := groupsIn(filepath.Join(root, at))
	if err != nil {
		return err
	}
	for _, name := range names {
		if matches(levels[:1], name) {
			err = errors.Join(err, expand(root, path.Join(at, name), levels[1:], found))
		}
	}
	return err
}

// groupsIn lists the groups in one; none if it has ended.
func groupsIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	entries, err := d.ReadDir(maxEntries)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(entries) == 0 {
		return nil, nil // an empty directory says so by an error
	}
	return names, err
}

// deviceNames are the names of "major:minor"; none if they cannot be had,
// which the disks tell.
func (h *sampler) deviceNames() map[string]string {
	names := map[string]string{}
	all, _ := h.diskstats()
	for _, d := range all {
		names[fmt.Sprintf("%d:%d", d.MajorNumber, d.MinorNumber)] = d.DeviceName
	}
	return names
}
