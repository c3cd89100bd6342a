package main

import (
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// clockTicks is USER_HZ, 100 on every architecture of Linux that Go
	// supports.
	clockTicks = 100
	// noLimit is where version 1's numbers mean none: it rounds the largest
	// one down to pages.
	noLimit = 1 << 62
)

// group is one cgroup that is being sampled. A file that is not there belongs
// to a controller that the group does not have, or the group has ended.
type group struct {
	sample  *sample
	id      string
	devices map[string]string
	errs    []error
}

func (g *group) add(name string, value float64, labels ...string) {
	g.sample.add("container_"+name, value, append(labels, "id", g.id)...)
}

// read returns nil if there is nothing to be had.
func (g *group) read(dir, name string) []byte {
	if dir == "" {
		return nil
	}
	data, err := readFile(filepath.Join(dir, name))
	// The kernel says ENODEV of a group that ended while it was open, and
	// EOPNOTSUPP of pressure that is turned off.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.EOPNOTSUPP) {
		g.errs = append(g.errs, err)
	}
	return data
}

// number adds a file's one number, times scale; "max" and what version 1 has
// for it is no number.
func (g *group) number(metric, dir, name string, scale float64) {
	if n, ok := numberOf(g.read(dir, name)); ok {
		g.add(metric, n*scale)
	}
}

func numberOf(data []byte) (float64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return float64(n), err == nil && n < noLimit
}

// version2 reads the one directory that a group has.
func (g *group) version2(dir string) {
	inactive := math.NaN()
	for key, n := range keyed(g.read(dir, "memory.stat")) {
		switch key {
		case "anon":
			g.add("memory_rss", n)
		case "file":
			g.add("memory_cache", n)
		case "inactive_file":
			inactive = n
		}
	}
	g.workingSet(g.read(dir, "memory.current"), inactive)
	g.number("spec_memory_limit_bytes", dir, "memory.max", 1)
	g.number("memory_swap", dir, "memory.swap.current", 1)
	for key, n := range keyed(g.read(dir, "memory.events")) {
		if key == "oom_kill" {
			g.add("oom_events_total", n)
		}
	}
	for key, n := range keyed(g.read(dir, "cpu.stat")) {
		switch key {
		case "usage_usec":
			g.add("cpu_usage_seconds_total", n/1e6)
		case "user_usec":
			g.add("cpu_user_seconds_total", n/1e6)
		case "system_usec":
			g.add("cpu_system_seconds_total", n/1e6)
		case "throttled_usec":
			g.add("cpu_cfs_throttled_seconds_total", n/1e6)
		}
		g.throttling(key, n)
	}
	if quota, period, ok := strings.Cut(strings.TrimSpace(string(g.read(dir, "cpu.max"))), " "); ok {
		g.quota([]byte(quota), []byte(period))
	}
	for device, d := range ordered(ioStat(g.read(dir, "io.stat"))) {
		g.io(device, d)
	}
	g.number("threads", dir, "pids.current", 1)
	g.number("threads_max", dir, "pids.max", 1)
	for _, resource := range [...]string{"cpu", "memory", "io"} {
		stallOf(g.read(dir, resource+".pressure")).add(g.sample, "container_pressure_"+resource, "id", g.id)
	}
}

// version1 reads a directory for each controller.
func (g *group) version1(t hierarchies, name string) {
	for _, tree := range []*string{&t.cpu, &t.cpuacct, &t.memory, &t.blkio, &t.pids} {
		if *tree != "" {
			*tree = filepath.Join(*tree, name)
		}
	}
	inactive := math.NaN()
	for key, n := range keyed(g.read(t.memory, "memory.stat")) {
		switch key {
		case "total_rss":
			g.add("memory_rss", n)
		case "total_cache":
			g.add("memory_cache", n)
		case "total_swap":
			g.add("memory_swap", n)
		case "total_inactive_file":
			inactive = n
		}
	}
	g.workingSet(g.read(t.memory, "memory.usage_in_bytes"), inactive)
	g.number("spec_memory_limit_bytes", t.memory, "memory.limit_in_bytes", 1)
	g.number("memory_failcnt", t.memory, "memory.failcnt", 1)
	for key, n := range keyed(g.read(t.memory, "memory.oom_control")) {
		if key == "oom_kill" {
			g.add("oom_events_total", n)
		}
	}
	g.number("cpu_usage_seconds_total", t.cpuacct, "cpuacct.usage", 1e-9)
	for key, n := range keyed(g.read(t.cpuacct, "cpuacct.stat")) {
		switch key {
		case "user", "system":
			g.add("cpu_"+key+"_seconds_total", n/clockTicks)
		}
	}
	for key, n := range keyed(g.read(t.cpu, "cpu.stat")) {
		if key == "throttled_time" {
			g.add("cpu_cfs_throttled_seconds_total", n/1e9)
		}
		g.throttling(key, n)
	}
	g.quota(g.read(t.cpu, "cpu.cfs_quota_us"), g.read(t.cpu, "cpu.cfs_period_us"))
	g.blkio(t.blkio)
	g.number("threads", t.pids, "pids.current", 1)
	g.number("threads_max", t.pids, "pids.max", 1)
}

// workingSet is what a group could not give back at once.
func (g *group) workingSet(current []byte, inactive float64) {
	used, ok := numberOf(current)
	if !ok {
		return
	}
	g.add("memory_usage_bytes", used)
	if !math.IsNaN(inactive) {
		g.add("memory_working_set_bytes", used-min(used, inactive))
	}
}

func (g *group) throttling(key string, n float64) {
	switch key {
	case "nr_periods":
		g.add("cpu_cfs_periods_total", n)
	case "nr_throttled":
		g.add("cpu_cfs_throttled_periods_total", n)
	}
}

// quota adds how many microseconds of a period a group may use; "max" and -1
// are no quota.
func (g *group) quota(quota, period []byte) {
	q, ok := numberOf(quota)
	p, ok2 := numberOf(period)
	if ok && ok2 {
		g.add("spec_cpu_quota", q)
		g.add("spec_cpu_period", p)
	}
}

func (g *group) blkio(dir string) {
	all := map[string]deviceIO{}
	blkio(g.read(dir, "blkio.throttle.io_service_bytes_recursive"), func(device, operation string, n float64) {
		d := all[device]
		switch operation {
		case "Read":
			d.readBytes = n
		case "Write":
			d.writeBytes = n
		}
		all[device] = d
	})
	blkio(g.read(dir, "blkio.throttle.io_serviced_recursive"), func(device, operation string, n float64) {
		d := all[device]
		switch operation {
		case "Read":
			d.reads = n
		case "Write":
			d.writes = n
		}
		all[device] = d
	})
	for device, d := range ordered(all) {
		g.io(device, d)
	}
}

func (g *group) io(device string, d deviceIO) {
	if name, ok := g.devices[device]; ok {
		device = name
	}
	g.add("fs_reads_total", d.reads, "device", device)
	g.add("fs_writes_total", d.writes, "device", device)
	g.add("fs_reads_bytes_total", d.readBytes, "device", device)
	g.add("fs_writes_bytes_total", d.writeBytes, "device", device)
}
