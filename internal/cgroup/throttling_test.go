package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

func stat(all, throttled int) string {
	return fmt.Sprintf("usage_usec 12\nnr_periods %d\nnr_throttled %d\nthrottled_usec 7\n", all, throttled)
}

func TestThrottlingIsOfThePeriodsSinceTheLastMeasurement(t *testing.T) {
	const v1, v2 = "sys/fs/cgroup/cpu", "sys/fs/cgroup"
	type step struct {
		files   map[string]string
		percent float64 // less than 0: cannot be told
		basis   string
	}
	for name, c := range map[string]struct {
		own, mounts string
		steps       []step
	}{
		"v2": {"0::/app\n", v2Mount, []step{
			{map[string]string{v2 + "/app/cpu.stat": stat(100, 50), v2 + "/cpu.stat": "usage_usec 9\n"}, -1, ""},
			{map[string]string{v2 + "/app/cpu.stat": stat(200, 75)}, 25, "cgroup v2 /sys/fs/cgroup/app, 25 of 100 periods"},
			{map[string]string{}, 0, "cgroup v2 /sys/fs/cgroup/app, 0 of 0 periods"},
		}},
		"v1": {"2:cpu,cpuacct:/app\n0::/\n", v1Mount + v2Mount, []step{
			{map[string]string{v1 + "/app/cpu.stat": stat(10, 0), v1 + "/cpu.stat": stat(0, 0)}, -1, ""},
			{map[string]string{v1 + "/app/cpu.stat": stat(20, 10)}, 100, "cgroup v1 /sys/fs/cgroup/cpu/app, 10 of 10 periods"},
		}},
		"the quota of a group above": {"0::/slice/app\n", v2Mount, []step{
			{map[string]string{v2 + "/slice/app/cpu.stat": stat(10, 0), v2 + "/slice/cpu.stat": stat(10, 0)}, -1, ""},
			{map[string]string{v2 + "/slice/app/cpu.stat": stat(20, 1), v2 + "/slice/cpu.stat": stat(20, 5)}, 50, "cgroup v2 /sys/fs/cgroup/slice, 5 of 10 periods"},
		}},
		"no quota": {"0::/app\n", v2Mount, []step{
			{map[string]string{v2 + "/app/cpu.stat": stat(0, 0)}, 0, "cgroup v2, no CPU quota"},
		}},
		"counters that go back begin anew": {"0::/app\n", v2Mount, []step{
			{map[string]string{v2 + "/app/cpu.stat": stat(100, 50)}, -1, ""},
			{map[string]string{v2 + "/app/cpu.stat": stat(3, 1)}, -1, ""},
			{map[string]string{v2 + "/app/cpu.stat": stat(13, 1)}, 0, "cgroup v2 /sys/fs/cgroup/app, 0 of 10 periods"},
		}},
		"a process that moved begins anew": {"0::/app\n", v2Mount, []step{
			{map[string]string{v2 + "/app/cpu.stat": stat(100, 50), v2 + "/other/cpu.stat": stat(900, 900)}, -1, ""},
			{map[string]string{"proc/self/cgroup": "0::/other\n"}, -1, ""},
			{map[string]string{v2 + "/other/cpu.stat": stat(910, 900)}, 0, "cgroup v2 /sys/fs/cgroup/other, 0 of 10 periods"},
		}},
		"more throttled than there are is 100": {"0::/app\n", v2Mount, []step{
			{map[string]string{v2 + "/app/cpu.stat": stat(1, 0)}, -1, ""},
			{map[string]string{v2 + "/app/cpu.stat": stat(2, 9)}, 100, "cgroup v2 /sys/fs/cgroup/app, 9 of 1 periods"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, map[string]string{"proc/self/cgroup": c.own, "proc/self/mountinfo": c.mounts})
			m := NewThrottling(root, "self")
			for n, step := range c.steps {
				write(t, root, step.files)
				got, ok, err := m.Measure()
				if err != nil || ok != (step.percent >= 0) || ok && (got.Percent != step.percent || got.Basis != step.basis) {
					t.Fatalf("step %d: %+v, %v, %v; want %v %% of %q", n, got, ok, err, step.percent, step.basis)
				}
			}
		})
	}
}

func TestThrottlingThatCannotBeSeenIsNotZero(t *testing.T) {
	root := t.TempDir()
	m := NewThrottling(root, "self")
	if got, ok, err := m.Measure(); err != nil || !ok || got.Basis != "no cgroups" {
		t.Errorf("a kernel without cgroups: %+v, %v, %v", got, ok, err)
	}
	write(t, root, map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "1 2 0:3 / / rw - overlay overlay rw\n"})
	if _, ok, err := m.Measure(); !errors.Is(err, fs.ErrNotExist) || ok {
		t.Errorf("a container without /sys/fs/cgroup: %v, %v; want fs.ErrNotExist", ok, err)
	}
}

// TestThrottlingInARealCgroup has a process that wants a whole CPU in a group
// that gives it a twentieth.
func TestThrottlingInARealCgroup(t *testing.T) {
	if dir := os.Getenv(spinIn); dir != "" {
		spin(t, dir)
	}
	g, err := Find("/", "self", "cpu")
	if err != nil {
		t.Skip("no cgroup:", err)
	}
	dir := filepath.Join(g.Mount, fmt.Sprintf("perennial-throttling-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no right to make a cgroup:", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	name, quota := "cpu.cfs_quota_us", "5000"
	if g.V2 {
		name, quota = "cpu.max", "5000 100000"
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(quota), 0); err != nil {
		t.Skip("no right to give a cgroup a quota:", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestThrottlingInARealCgroup$")
	cmd.Env = append(os.Environ(), spinIn+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m := NewThrottling("/", strconv.Itoa(cmd.Process.Pid))
	waittest.Until(t, "a process that wants more than its quota is throttled", func() bool {
		got, ok, err := m.Measure()
		if err != nil {
			t.Fatal(err)
		}
		return ok && got.Percent > 50 && strings.Contains(got.Basis, filepath.Base(dir))
	})
}

const spinIn = "THROTTLING_TEST_SPIN_IN"

// spin never returns.
func spin(t *testing.T, dir string) {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	for {
		runtime.Gosched()
	}
}
