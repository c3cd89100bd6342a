package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// machine is where a run took place.
type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	CPU    string `json:"cpu,omitempty"`
	CPUs   int    `json:"cpus"`
	Memory string `json:"memory,omitempty"`
	Go     string `json:"go"`
	// Load is the load average when the run began.
	Load string `json:"load"`
	// Quick is true of a run whose figures are not to be relied on.
	Quick bool `json:"quick,omitempty"`
}

func thisMachine(quick bool) machine {
	return machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH,
		Kernel: strings.TrimSpace(readText("/proc/sys/kernel/osrelease")),
		CPU:    procValue(readText("/proc/cpuinfo"), "model name"),
		CPUs:   runtime.NumCPU(),
		Memory: procValue(readText("/proc/meminfo"), "MemTotal"),
		Go:     runtime.Version(),
		Load:   loadAverage(), Quick: quick,
	}
}

func (m machine) String() string {
	s := fmt.Sprintf("%s/%s, kernel %s, %d × %s, %s, %s, load average %s", m.OS, m.Arch, m.Kernel, m.CPUs, m.CPU, m.Memory, m.Go, m.Load)
	if m.Quick {
		s += "\nquick: too few repetitions to rely on"
	}
	return s
}

// loadAverage is that of the last 1, 5 and 15 minutes, where the system
// tells it.
func loadAverage() string {
	fields := strings.Fields(readText("/proc/loadavg"))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

// procValue finds a line "key : value" in the text of a file of /proc.
func procValue(text, key string) string {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// readText is empty where there is no such file.
func readText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
