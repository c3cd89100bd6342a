package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostFiles are a small host's, below its root.
func hostFiles() map[string]string {
	return map[string]string{
		"proc/stat":                   "cpu  100 20 30 1000 50 1 2 3 4 5\ncpu0 50 10 15 500 25 0 1 1 0 0\ncpu1 50 10 15 500 25 1 1 2 4 5\nintr 7 1 2\nctxt 9\nbtime 1700000000\nprocesses 77\nprocs_running 2\nprocs_blocked 1\n",
		"proc/loadavg":                "0.50 1.25 2.00 3/456 789\n",
		"proc/meminfo":                "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\nCached: 512 kB\nSwapTotal: 4 kB\nSwapFree: 3 kB\n",
		"proc/vmstat":                 "nr_free_pages 1\npgmajfault 11\npswpin 12\npswpout 13\noom_kill 1\n",
		"proc/1/stat":                 "",
		"proc/42/stat":                "",
		"proc/sys/kernel/pid_max":     "4194304\n",
		"proc/sys/kernel/threads-max": "1000\n",
		"proc/sys/fs/file-nr":         "594\t0\t2466170\n",
		"proc/pressure/cpu":           "some avg10=2.43 avg60=4.44 avg300=4.17 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/pressure/memory":        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
		"proc/pressure/io":            "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
		"proc/diskstats":              "   8 0 sda 10 1 100 5 20 2 200 6 1 7 8 0 0 0 0\n   7 0 loop0 1 1 1 1 1 1 1 1 1 1 1 1\n",
		"proc/1/net/dev":              "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n  lo: 5 6 7 0 0 0 0 0 8 9 1 0 0 0 0 0\neth0:15 16 17 2 0 0 0 0 18 19 11 3 0 0 0 0\nveth1: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n",
		"proc/1/cgroup":               "0::/init.scope\n",
		"proc/1/mountinfo": "24 1 8:0 / / rw,relatime - ext4 /dev/sda rw\n" +
			"25 24 0:5 / /proc rw - proc proc rw\n" +
			"29 24 8:9 / /my\\040data rw - ext4 /dev/hidden rw\n" +
			"26 24 0:30 / /my\\040data ro - tmpfs tmpfs ro\n" +
			"27 24 8:0 /x /bound rw - ext4 /dev/sda rw\n" +
			"28 24 0:44 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw\n" +
			"30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"my data/x": "",
	}
}

// version2Files are of one group below another.
func version2Files() map[string]string {
	all := map[string]string{}
	root := "sys/fs/cgroup/"
	all[root+"cgroup.controllers"] = "cpu io memory pids\n"
	all[root+"cpu.stat"] = "usage_usec 9000000\nuser_usec 5000000\nsystem_usec 4000000\n"
	all[root+"init.scope/cgroup.procs"] = ""
	web := root + "system.slice/web.service/"
	all[root+"system.slice/memory.current"] = "5000\n"
	all[web+"memory.current"] = "1000\n"
	all[web+"memory.max"] = "2000\n"
	all[web+"memory.swap.current"] = "7\n"
	all[web+"memory.stat"] = "anon 600\nfile 400\ninactive_file 300\n"
	all[web+"memory.events"] = "low 0\noom 2\noom_kill 1\n"
	all[web+"cpu.stat"] = "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 500000\n"
	all[web+"cpu.max"] = "50000 100000\n"
	all[web+"io.stat"] = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"
	all[web+"pids.current"] = "12\n"
	all[web+"pids.max"] = "max\n"
	all[web+"memory.pressure"] = "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=125000\n"
	return all
}

func version1Files() map[string]string {
	all := map[string]string{}
	root, web := "sys/fs/cgroup/", "/system.slice/web.service/"
	all[root+"memory"+web+"memory.usage_in_bytes"] = "1000\n"
	all[root+"memory"+web+"memory.limit_in_bytes"] = "2000\n"
	all[root+"memory/system.slice/memory.limit_in_bytes"] = "9223372036854771712\n"
	all[root+"memory"+web+"memory.failcnt"] = "5\n"
	all[root+"memory"+web+"memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"
	all[root+"memory"+web+"memory.stat"] = "inactive_file 1\ntotal_rss 600\ntotal_cache 400\ntotal_swap 7\ntotal_inactive_file 300\n"
	all[root+"cpuacct"+web+"cpuacct.usage"] = "3000000000\n"
	all[root+"cpuacct"+web+"cpuacct.stat"] = "user 200\nsystem 100\n"
	all[root+"cpu"+web+"cpu.stat"] = "nr_periods 10\nnr_throttled 4\nthrottled_time 500000000\n"
	all[root+"cpu"+web+"cpu.cfs_quota_us"] = "50000\n"
	all[root+"cpu"+web+"cpu.cfs_period_us"] = "100000\n"
	all[root+"cpu/system.slice/cpu.cfs_quota_us"] = "-1\n"
	all[root+"cpu/system.slice/cpu.cfs_period_us"] = "100000\n"
	all[root+"blkio"+web+"blkio.throttle.io_service_bytes_recursive"] = "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\nTotal 3\n"
	all[root+"blkio"+web+"blkio.throttle.io_serviced_recursive"] = "8:0 Read 3\n8:0 Write 4\nTotal 7\n"
	all[root+"pids"+web+"pids.current"] = "12\n"
	all[root+"pids"+web+"pids.max"] = "max\n"
	return all
}

// newRoot lays out a host.
func newRoot(t testing.TB, parts ...map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{}
	for _, part := range parts {
		maps.Copy(files, part)
	}
	for name, text := range files {
		put(t, root, name, text)
	}
	return root
}

func put(t testing.TB, root, name, text string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sampled takes one sample, by settings of the root and more.
func sampled(t testing.TB, root, more string) *sample {
	t.Helper()
	set, err := readSettings([]byte(`{"root":"`+root+`"}`), []byte(more))
	if err != nil {
		t.Fatal(err)
	}
	h, err := newSampler(set, &statter{})
	if err != nil {
		t.Fatal(err)
	}
	return h.sample()
}

// values are the metrics by name and labels, as Prometheus writes them.
func (s *sample) values(t testing.TB) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, m := range s.Metrics {
		var labels []string
		for name, value := range ordered(m.Labels) {
			labels = append(labels, name+`="`+value+`"`)
		}
		key := m.Name
		if len(labels) > 0 {
			key += "{" + strings.Join(labels, ",") + "}"
		}
		if _, twice := all[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		all[key] = m.Value
	}
	return all
}

func (s *sample) problem(of string) string {
	for _, p := range s.Problems {
		if p.Of == of {
			return p.Error
		}
	}
	return ""
}
