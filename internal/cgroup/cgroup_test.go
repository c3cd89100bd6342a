package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount = "35 31 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryGroupAboveCounts(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"proc/self/cgroup": "3:cpu,cpuacct:/a/b\n0::/x\n", "proc/self/mountinfo": v2Mount + v1Mount})
	g, err := Find(root, "self", "cpu")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/sys/fs/cgroup/cpu/a/b", "/sys/fs/cgroup/cpu/a", "/sys/fs/cgroup/cpu"}
	if got := slices.Collect(g.Up()); !slices.Equal(got, want) || g.Version() != "v1" {
		t.Errorf("%s %q, want v1 %q", g.Version(), got, want)
	}
	g, err = Find(root, "self", "memory") // not in version 1: in the unified hierarchy
	if err != nil || g.Dir != "/sys/fs/cgroup/x" || g.Version() != "v2" {
		t.Errorf("%+v, %v", g, err)
	}
	write(t, root, map[string]string{"proc/self/mountinfo": ""})
	if g, err = Find(root, "self", "cpu"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a container that sees no cgroups: %+v, %v; want fs.ErrNotExist", g, err)
	}
}

func FuzzCgroupFiles(f *testing.F) {
	f.Add("4:memory:/app\n0::/\n", v2Mount+v1Mount, "nr_periods 3\nnr_throttled 1\n")
	f.Add("0::/../..\n", `1 2 3 /\134 /\040 - cgroup2 x y`, "nr_periods -1\nnr_throttled\n")
	f.Add(":::\n", "- - -\n", "")
	f.Fuzz(func(t *testing.T, own, mounts, stat string) {
		v1, v2 := ownPaths([]byte(own), "cpu")
		for controller, p := range map[string]string{"cpu": v1, "": v2} {
			g, ok := mounted([]byte(mounts), p, controller)
			if !ok {
				continue
			}
			if g.Dir != g.Mount && !strings.HasPrefix(g.Dir, strings.TrimSuffix(g.Mount, "/")+"/") {
				t.Errorf("group %q is outside of its mount %q", g.Dir, g.Mount)
			}
			if n := len(slices.Collect(g.Up())); n > 2+strings.Count(g.Dir, "/") {
				t.Errorf("%d groups above %q", n, g.Dir)
			}
		}
		a, _ := parsePeriods([]byte(stat))
		b := periods{a.all + 1, a.throttled}
		if p := a.until(b); b.all > a.all && (p < 0 || p > 100) {
			t.Errorf("%+v to %+v: %v %%", a, b, p)
		}
	})
}
