package memory

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/cgroup"
)

const (
	meminfo  = "MemTotal: 1000000 kB\nMemFree: 100000 kB\nMemAvailable: 600000 kB\n"
	v2Mount  = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount  = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	hostOnly = "host, limit 976.6 MiB"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// merge adds /proc/meminfo and returns one tree.
func merge(parts ...map[string]string) map[string]string {
	all := map[string]string{"proc/meminfo": meminfo}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

func process(cgroup, mountinfo string) map[string]string {
	return map[string]string{"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo}
}

func v2(dir, limit string, current, inactive int) map[string]string {
	return map[string]string{
		dir + "/memory.max":     limit + "\n",
		dir + "/memory.current": fmt.Sprintln(current),
		dir + "/memory.stat":    fmt.Sprintf("anon 1\ninactive_anon 5\ninactive_file %d\n", inactive),
	}
}

func v1(dir, limit string, usage, inactive int, more string) map[string]string {
	return map[string]string{
		dir + "/memory.limit_in_bytes": limit + "\n",
		dir + "/memory.usage_in_bytes": fmt.Sprintln(usage),
		dir + "/memory.stat":           fmt.Sprintf("inactive_file 1\n%stotal_inactive_file %d\n", more, inactive),
	}
}

const (
	cg   = "sys/fs/cgroup"
	mem1 = "sys/fs/cgroup/memory"
	none = "9223372036854771712" // version 1's "no limit"
)

func TestMemoryIsMeasuredAgainstWhatLimitsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		files   map[string]string
		percent float64
		basis   string
	}{
		"no cgroups: host": {
			merge(), 40, hostOnly,
		},
		"v2 limit of the own group": {
			merge(process("0::/app\n", v2Mount), v2(cg+"/app", "1048576", 600000, 75712)),
			50, "cgroup v2 /sys/fs/cgroup/app, limit 1.0 MiB",
		},
		"v2 container with its own namespace": {
			merge(process("0::/\n", v2Mount), v2(cg, "1048576", 524288, 0)),
			50, "cgroup v2 /sys/fs/cgroup, limit 1.0 MiB",
		},
		"v2 limit of an ancestor, with the usage of the ancestor": {
			merge(process("0::/slice/app\n", v2Mount), v2(cg+"/slice/app", "max", 1000, 0), v2(cg+"/slice", "1048576", 786432, 0)),
			75, "cgroup v2 /sys/fs/cgroup/slice, limit 1.0 MiB",
		},
		"v2 smallest of several limits": {
			merge(process("0::/slice/app\n", v2Mount), v2(cg+"/slice/app", "1048576", 262144, 0), v2(cg+"/slice", "4194304", 4000000, 0)),
			25, "cgroup v2 /sys/fs/cgroup/slice/app, limit 1.0 MiB",
		},
		"v2 of equal limits the upper binds": {
			merge(process("0::/slice/app\n", v2Mount), v2(cg+"/slice/app", "1048576", 262144, 0), v2(cg+"/slice", "1048576", 786432, 0)),
			75, "cgroup v2 /sys/fs/cgroup/slice, limit 1.0 MiB",
		},
		"v2 without any limit: host": {
			merge(process("0::/app\n", v2Mount), v2(cg+"/app", "max", 1000, 0)), 40, hostOnly,
		},
		"v2 limit above the host's memory: host": {
			merge(process("0::/app\n", v2Mount), v2(cg+"/app", "99999999999999", 1000, 0)), 40, hostOnly,
		},
		"v2 more cache than usage is not negative": {
			merge(process("0::/\n", v2Mount), v2(cg, "1048576", 1000, 2000)),
			0, "cgroup v2 /sys/fs/cgroup, limit 1.0 MiB",
		},
		"v2 a group outside of the namespace": {
			merge(process("0::/../../other\n", v2Mount), v2(cg, "1048576", 524288, 0)),
			50, "cgroup v2 /sys/fs/cgroup, limit 1.0 MiB",
		},
		"v2 a container that has its host's groups as well, and first": {
			merge(process("0::/\n", "29 23 0:26 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n"+v2Mount), v2("host/cgroup", "max", 1, 0), v2(cg, "1048576", 524288, 0)),
			50, "cgroup v2 /sys/fs/cgroup, limit 1.0 MiB",
		},
		"v2 a mount point with a space": {
			merge(process("0::/\n", `30 23 0:26 / /my\040cgroup rw - cgroup2 cgroup2 rw`+"\n"), v2("my cgroup", "1048576", 524288, 0)),
			50, "cgroup v2 /my cgroup, limit 1.0 MiB",
		},
		"v1 limit of the own group": {
			merge(process("4:memory:/app\n", v1Mount), v1(mem1+"/app", "1048576", 600000, 75712, "")),
			50, "cgroup v1 /sys/fs/cgroup/memory/app, limit 1.0 MiB",
		},
		"v1 mounted from the container's group": {
			merge(process("4:cpu,memory:/docker/abc\n", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n"), v1(mem1, "1048576", 524288, 0, "")),
			50, "cgroup v1 /sys/fs/cgroup/memory, limit 1.0 MiB",
		},
		"v1 limit of a group that the namespace hides": {
			merge(process("4:memory:/\n", v1Mount), v1(mem1, none, 524288, 0, "hierarchical_memory_limit 1048576\n")),
			50, "cgroup v1 /sys/fs/cgroup/memory, limit 1.0 MiB",
		},
		"v1 without any limit: host": {
			merge(process("4:memory:/app\n", v1Mount), v1(mem1+"/app", none, 1000, 0, "hierarchical_memory_limit "+none+"\n")), 40, hostOnly,
		},
		"hybrid: version 1 has the memory controller": {
			merge(process("4:memory:/app\n0::/app\n", v2Mount+v1Mount), v1(mem1+"/app", "1048576", 524288, 0, ""), v2(cg+"/app", "max", 1, 0)),
			50, "cgroup v1 /sys/fs/cgroup/memory/app, limit 1.0 MiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := UsedBy(tree(t, tc.files), "self")
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(m.Percent()-tc.percent) > 0.01 || m.Basis() != tc.basis {
				t.Errorf("%.2f %% of %q, want %.2f %% of %q", m.Percent(), m.Basis(), tc.percent, tc.basis)
			}
		})
	}
}

func TestMemoryThatCannotBeReadIsNotGuessed(t *testing.T) {
	group := process("0::/\n", v2Mount)
	for name, files := range map[string]map[string]string{
		"no meminfo":             {},
		"meminfo without values": {"proc/meminfo": "MemTotal: x kB\n"},
		"limit is no number":     merge(group, v2(cg, "many", 1, 0)),
		"limit is zero":          merge(group, v2(cg, "0", 1, 0)),
		"limit is negative":      merge(group, v2(cg, "-1", 1, 0)),
		"usage is no number":     merge(group, v2(cg, "1000", 1, 0), map[string]string{cg + "/memory.current": "?"}),
		"no usage":               merge(group, map[string]string{cg + "/memory.max": "1000"}),
		"no inactive_file":       merge(group, v2(cg, "1000", 1, 0), map[string]string{cg + "/memory.stat": "anon 1\n"}),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := UsedBy(tree(t, files), "self"); err == nil {
				t.Errorf("got %+v, want an error", m)
			}
		})
	}
}

const joinCgroup = "MEMORY_TEST_JOIN_CGROUP"

// TestMemoryInARealCgroup runs this test binary again inside of a group with a
// limit of its own.
func TestMemoryInARealCgroup(t *testing.T) {
	if dir := os.Getenv(joinCgroup); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		ballast := bytes.Repeat([]byte{1}, 32<<20)
		m, err := UsedBy("/", "self")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("measured %d %d %s\n", m.Bytes, m.Limit, m.Source)
		if len(ballast) == 0 {
			t.Fatal("unreachable: keeps the ballast")
		}
		return
	}
	g, err := cgroup.Find("/", "self", "memory")
	if err != nil {
		t.Skip("no cgroup:", err)
	}
	dir := filepath.Join(g.Mount, fmt.Sprintf("perennial-memory-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no right to make a cgroup:", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	name := "memory.limit_in_bytes"
	if g.V2 {
		name = "memory.max"
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("268435456"), 0); err != nil {
		t.Skip("no right to limit a cgroup:", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryInARealCgroup$", "-test.v")
	cmd.Env = append(os.Environ(), joinCgroup+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, line, _ := strings.Cut(string(out), "measured ")
	var used, limit uint64
	if _, err := fmt.Sscan(line, &used, &limit); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if limit != 256<<20 || used < 32<<20 || used > limit || !strings.Contains(line, filepath.Base(dir)) {
		t.Errorf("used %d of %d, want at least 32 MiB of 256 MiB of %s: %s", used, limit, dir, line)
	}
}
