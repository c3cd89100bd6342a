package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/perennial-go/perennial/health"
)

// cpu is the time in each mode, and what else /proc/stat tells.
func (h *sampler) cpu(s *sample) error {
	stat, err := h.proc.Stat()
	if err != nil {
		return err
	}
	if len(stat.CPU) == 0 {
		return errors.New("proc/stat: want a line for each processor, found none")
	}
	s.add("machine_cpu_cores", float64(len(stat.CPU)))
	if h.PerCPU {
		for n, one := range ordered(stat.CPU) {
			addCPU(s, one, "cpu", strconv.FormatInt(n, 10))
		}
	} else {
		addCPU(s, stat.CPUTotal)
	}
	s.add("node_context_switches_total", float64(stat.ContextSwitches))
	s.add("node_intr_total", float64(stat.IRQTotal))
	s.add("node_forks_total", float64(stat.ProcessCreated))
	s.add("node_procs_running", float64(stat.ProcessesRunning))
	s.add("node_procs_blocked", float64(stat.ProcessesBlocked))
	s.add("node_boot_time_seconds", float64(stat.BootTime))
	s.add("node_time_seconds", float64(time.Now().UnixMilli())/1000)
	return nil
}

// addCPU adds the modes. The kernel counts guests within user and nice too.
func addCPU(s *sample, c procfs.CPUStat, labels ...string) {
	for _, mode := range []struct {
		name    string
		seconds float64
	}{
		{"user", c.User},
		{"nice", c.Nice},
		{"system", c.System},
		{"idle", c.Idle},
		{"iowait", c.Iowait},
		{"irq", c.IRQ},
		{"softirq", c.SoftIRQ},
		{"steal", c.Steal},
	} {
		s.add("node_cpu_seconds_total", mode.seconds, slices.Concat(labels, []string{"mode", mode.name})...)
	}
	s.add("node_cpu_guest_seconds_total", c.Guest, slices.Concat(labels, []string{"mode", "user"})...)
	s.add("node_cpu_guest_seconds_total", c.GuestNice, slices.Concat(labels, []string{"mode", "nice"})...)
}

func (h *sampler) load(s *sample) error {
	load, err := h.proc.LoadAvg()
	if err != nil {
		return err
	}
	s.add("node_load1", load.Load1)
	s.add("node_load5", load.Load5)
	s.add("node_load15", load.Load15)
	return nil
}

func (h *sampler) memory(s *sample) error {
	m, err := h.proc.Meminfo()
	if err != nil {
		return err
	}
	if m.MemTotalBytes == nil {
		return errors.New("proc/meminfo: want MemTotal, found none")
	}
	for _, field := range []struct {
		name  string
		bytes *uint64
	}{
		{"MemTotal", m.MemTotalBytes},
		{"MemAvailable", m.MemAvailableBytes},
		{"MemFree", m.MemFreeBytes},
		{"Buffers", m.BuffersBytes},
		{"Cached", m.CachedBytes},
		{"AnonPages", m.AnonPagesBytes},
		{"Shmem", m.ShmemBytes},
		{"Slab", m.SlabBytes},
		{"SReclaimable", m.SReclaimableBytes},
		{"Dirty", m.DirtyBytes},
		{"Writeback", m.WritebackBytes},
		{"Committed_AS", m.CommittedASBytes},
		{"CommitLimit", m.CommitLimitBytes},
		{"SwapTotal", m.SwapTotalBytes},
		{"SwapFree", m.SwapFreeBytes},
		{"SwapCached", m.SwapCachedBytes},
	} {
		if field.bytes != nil {
			s.add("node_memory_"+field.name+"_bytes", float64(*field.bytes))
		}
	}
	return nil
}

// workingSet is the percentage that the agent's own alert is about, in bytes.
func (h *sampler) workingSet(s *sample) error {
	used, err := health.MemoryOf(h.Root, h.self)
	if err != nil {
		return err
	}
	s.add("node_memory_working_set_bytes", float64(used.Bytes), "basis", used.Source)
	s.add("node_memory_working_set_limit_bytes", float64(used.Limit), "basis", used.Source)
	return nil
}

// paging is what memory costs when there is too little.
func (h *sampler) paging(s *sample) error {
	data, err := readFile(h.path("proc", "vmstat"))
	if err != nil {
		return err
	}
	for key, n := range keyed(data) {
		switch key {
		case "pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout", "oom_kill":
			s.add("node_vmstat_"+key, n)
		}
	}
	return nil
}

// processes counts without opening one directory for each.
func (h *sampler) processes(s *sample) error {
	all, err := h.proc.AllProcs()
	if err != nil {
		return err
	}
	s.add("node_processes_pids", float64(len(all)))
	data, err := readFile(h.path("proc", "loadavg"))
	if err != nil {
		return err
	}
	threads, err := threadsOf(string(data))
	if err != nil {
		return err
	}
	s.add("node_processes_threads", threads)
	return errors.Join(
		h.sysctl(s, "kernel/pid_max", "node_processes_max_processes"),
		h.sysctl(s, "kernel/threads-max", "node_processes_max_threads"))
}

// threadsOf reads the fourth field of /proc/loadavg, runnable/all.
func threadsOf(loadavg string) (float64, error) {
	if fields := strings.Fields(loadavg); len(fields) >= 4 {
		if _, all, ok := strings.Cut(fields[3], "/"); ok {
			n, err := strconv.ParseUint(all, 10, 32)
			if err == nil {
				return float64(n), nil
			}
		}
	}
	return 0, fmt.Errorf("proc/loadavg: want runnable/all as its fourth field, found %.60q", loadavg)
}

func (h *sampler) descriptors(s *sample) error {
	return h.sysctl(s, "fs/file-nr", "node_filefd_allocated", "", "node_filefd_maximum")
}

// sysctl adds a setting's numbers under names, "" for one that is left out.
func (h *sampler) sysctl(s *sample, file string, names ...string) error {
	numbers, err := h.proc.SysctlInts(file)
	if err != nil {
		return err
	}
	if len(numbers) < len(names) {
		return fmt.Errorf("proc/sys/%s: want %d numbers, found %d", file, len(names), len(numbers))
	}
	for i, name := range names {
		if name != "" {
			s.add(name, float64(numbers[i]))
		}
	}
	return nil
}

// readFile reads a file of the kernel's, which has no size beforehand.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return readBounded(f)
}
