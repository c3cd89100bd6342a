package agent

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/internal/redact"
)

// processReport is process.json of a diagnosis.
type processReport struct {
	PID        int      `json:"pid"`
	PPID       int      `json:"ppid"`
	UID        int      `json:"uid"`
	Executable string   `json:"executable"`
	Args       []string `json:"args"`
	// Environment has the names only.
	Environment []string `json:"environment"`
	CPUs        int      `json:"cpus"`
	MaxProcs    int      `json:"max_procs"`
	Goroutines  int      `json:"goroutines"`
	OpenFiles   int      `json:"open_files,omitempty"`
	// Files are the kernel's about this process and its cgroup, by path; those
	// that there are.
	Files map[string]string `json:"files,omitempty"`
}

func processFacts(_ context.Context, w io.Writer) (string, error) {
	args, _ := redact.CommandLine(os.Args)
	r := processReport{
		PID: os.Getpid(), PPID: os.Getppid(), UID: os.Getuid(), Args: args,
		CPUs: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(), Files: map[string]string{},
	}
	r.Executable, _ = os.Executable() // "" where the system does not tell
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		r.Environment = append(r.Environment, name)
	}
	slices.Sort(r.Environment)
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.OpenFiles = len(open) - 1 // the directory itself
	}
	for _, name := range kernelFiles() {
		if text, err := firstOf(name); err == nil {
			r.Files[name] = text
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return "", e.Encode(r)
}

// kernelFiles are of Linux; elsewhere there are none of them.
func kernelFiles() []string {
	names := []string{
		"/proc/self/status", "/proc/self/limits", "/proc/self/cgroup", "/proc/self/oom_score",
		"/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/sys/kernel/random/boot_id",
		"/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io",
	}
	groups, err := firstOf("/proc/self/cgroup")
	if err != nil {
		return names
	}
	for line := range strings.Lines(groups) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, dir, _ := strings.Cut(rest, ":")
		for _, at := range []struct {
			controller, base string
			files            []string
		}{
			{"", "/sys/fs/cgroup", []string{"memory.max", "memory.high", "memory.current", "memory.events", "cpu.max", "cpu.stat", "pids.max", "pids.current"}},
			{"memory", "/sys/fs/cgroup/memory", []string{"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "memory.failcnt"}},
			{"cpu", "/sys/fs/cgroup/cpu", []string{"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"}},
			{"pids", "/sys/fs/cgroup/pids", []string{"pids.max", "pids.current"}},
		} {
			if !slices.Contains(strings.Split(controllers, ","), at.controller) {
				continue
			}
			for _, file := range at.files {
				names = append(names, filepath.Join(at.base, dir, file))
			}
		}
	}
	return names
}

// firstOf reads the beginning of a file of the kernel's.
func firstOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 32<<10))
	return string(data), err
}
