package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSampleHoldsTheKernelsFigures(t *testing.T) {
	s := sampled(t, newRoot(t, hostFiles(), version2Files()), `{}`)
	if len(s.Problems) > 0 || s.Dropped > 0 {
		t.Errorf("problems %+v, dropped %d", s.Problems, s.Dropped)
	}
	got := s.values(t)
	for name, want := range map[string]float64{
		`machine_cpu_cores`:                                 2,
		`node_cpu_seconds_total{mode="user"}`:               1,
		`node_cpu_seconds_total{mode="idle"}`:               10,
		`node_cpu_seconds_total{mode="steal"}`:              0.03,
		`node_cpu_guest_seconds_total{mode="nice"}`:         0.05,
		`node_boot_time_seconds`:                            1700000000,
		`node_forks_total`:                                  77,
		`node_load1`:                                        0.5,
		`node_load15`:                                       2,
		`node_memory_MemAvailable_bytes`:                    1024 << 10,
		`node_memory_SwapFree_bytes`:                        3 << 10,
		`node_memory_working_set_bytes{basis="host"}`:       1024 << 10,
		`node_memory_working_set_limit_bytes{basis="host"}`: 2048 << 10,
		`node_vmstat_pgmajfault`:                            11,
		`node_vmstat_oom_kill`:                              1,
		`node_processes_pids`:                               2,
		`node_processes_threads`:                            456,
		`node_processes_max_processes`:                      4194304,
		`node_processes_max_threads`:                        1000,
		`node_filefd_allocated`:                             594,
		`node_filefd_maximum`:                               2466170,
		`node_pressure_cpu_waiting_seconds_total`:           2.5,
		`node_pressure_memory_stalled_seconds_total`:        0.5,
		`node_disk_read_bytes_total{device="sda"}`:          100 * 512,
		`node_disk_write_time_seconds_total{device="sda"}`:  0.006,
		`node_network_receive_bytes_total{device="eth0"}`:   15,
		`node_network_transmit_drop_total{device="eth0"}`:   3,
		`node_network_receive_errs_total{device="lo"}`:      7,
		`node_filesystem_readonly{device="tmpfs",fstype="tmpfs",mountpoint="/my data"}`: 1,
		`container_cpu_usage_seconds_total{id="/"}`:                                     9,
		`container_memory_usage_bytes{id="/system.slice"}`:                              5000,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
	for name := range got {
		for _, no := range []string{"loop0", "veth1", "hidden", "/bound", "overlay", `fstype="proc"`, "web.service", "stalled_seconds_total{device"} {
			if strings.Contains(name, no) {
				t.Errorf("%s was not asked for", name)
			}
		}
	}
	if got[`node_filesystem_size_bytes{device="/dev/sda",fstype="ext4",mountpoint="/"}`] == 0 {
		t.Error("the file system at / has no size")
	}
}

func TestGroupHasTheSameFiguresInBothVersions(t *testing.T) {
	want := map[string]float64{
		`container_cpu_cfs_periods_total{}`:              10,
		`container_cpu_cfs_throttled_periods_total{}`:    4,
		`container_cpu_cfs_throttled_seconds_total{}`:    0.5,
		`container_cpu_system_seconds_total{}`:           1,
		`container_cpu_usage_seconds_total{}`:            3,
		`container_cpu_user_seconds_total{}`:             2,
		`container_fs_reads_bytes_total{device="sda",}`:  1,
		`container_fs_writes_bytes_total{device="sda",}`: 2,
		`container_fs_reads_total{device="sda",}`:        3,
		`container_fs_writes_total{device="sda",}`:       4,
		`container_memory_cache{}`:                       400,
		`container_memory_rss{}`:                         600,
		`container_memory_swap{}`:                        7,
		`container_memory_usage_bytes{}`:                 1000,
		`container_memory_working_set_bytes{}`:           700,
		`container_oom_events_total{}`:                   1,
		`container_spec_cpu_period{}`:                    100000,
		`container_spec_cpu_quota{}`:                     50000,
		`container_spec_memory_limit_bytes{}`:            2000,
		`container_threads{}`:                            12,
	}
	version1 := maps.Clone(want)
	version1[`container_memory_failcnt{}`] = 5
	version2 := maps.Clone(want)
	version2[`container_pressure_memory_waiting_seconds_total{}`] = 0.25
	version2[`container_pressure_memory_stalled_seconds_total{}`] = 0.125
	for name, c := range map[string]struct {
		files map[string]string
		want  map[string]float64
	}{"version 1": {version1Files(), version1}, "version 2": {version2Files(), version2}} {
		t.Run(name, func(t *testing.T) {
			s := sampled(t, newRoot(t, hostFiles(), c.files), `{"cgroups":["/system.slice/*"]}`)
			got := map[string]float64{}
			for key, value := range s.values(t) {
				if strings.HasPrefix(key, "container_") {
					got[strings.Replace(key, `id="/system.slice/web.service"`, "", 1)] = value
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestWithoutALimitNoneIsReported(t *testing.T) {
	for name, files := range map[string]map[string]string{"version 1": version1Files(), "version 2": version2Files()} {
		s := sampled(t, newRoot(t, hostFiles(), files), `{"cgroups":["/system.slice","/system.slice/web.service"]}`)
		for key, value := range s.values(t) {
			if strings.Contains(key, `"/system.slice"`) && strings.Contains(key, "spec_") || strings.Contains(key, "threads_max") && strings.Contains(key, "id=") {
				t.Errorf("%s: %s is %v", name, key, value)
			}
		}
	}
}

func TestFileThatIsMissingIsToldAndDoesNotStopTheRest(t *testing.T) {
	whole := len(sampled(t, newRoot(t, hostFiles(), version2Files()), `{}`).Metrics)
	for file, of := range map[string]string{
		"proc/stat":               "cpu",
		"proc/loadavg":            "load",
		"proc/meminfo":            "memory",
		"proc/vmstat":             "paging",
		"proc/sys/fs/file-nr":     "file descriptors",
		"proc/sys/kernel/pid_max": "processes",
		"proc/pressure/io":        "pressure",
		"proc/diskstats":          "disks",
		"proc/1/net/dev":          "network",
		"proc/1/mountinfo":        "file systems",
	} {
		root := newRoot(t, hostFiles(), version2Files())
		if err := os.Remove(filepath.Join(root, file)); err != nil {
			t.Fatal(err)
		}
		s := sampled(t, root, `{}`)
		if !strings.Contains(s.problem(of), "no such file") || len(s.Metrics) < whole/2 || len(s.Metrics) >= whole {
			t.Errorf("without %s: problems %+v, %d metrics of %d", file, s.Problems, len(s.Metrics), whole)
		}
		if err := s.fault(); err != nil {
			t.Errorf("without %s the plugin is not well: %v", file, err)
		}
	}
}

func TestFileOfAnUnknownFormIsAFaultAndDoesNotStopTheRest(t *testing.T) {
	for name, c := range map[string]struct{ file, text, of string }{
		"no processor":                {"proc/stat", "", "cpu"},
		"no figures of memory":        {"proc/meminfo", "x y\n", "memory"},
		"an empty line of memory":     {"proc/meminfo", "\n", "memory"},
		"an interface without fields": {"proc/1/net/dev", "\n\neth0: 1\n", "network"},
		"load is no number":           {"proc/loadavg", "a b c\n", "load"},
		"no threads":                  {"proc/loadavg", "1 2 3 x 1\n", "processes"},
		"a mount without fields":      {"proc/1/mountinfo", "1 2\n", "file systems"},
		"too few numbers":             {"proc/sys/fs/file-nr", "1\n", "file descriptors"},
		"a disk that is no disk":      {"proc/diskstats", "a b c\n", "disks"},
		"a directory":                 {"proc/pressure/cpu/x", "", "pressure"},
		"a huge file":                 {"proc/vmstat", strings.Repeat("x\n", 1<<20), "paging"},
	} {
		t.Run(name, func(t *testing.T) {
			files := hostFiles()
			delete(files, filepath.Dir(c.file))
			files[c.file] = c.text
			s := sampled(t, newRoot(t, files, version2Files()), `{}`)
			if s.problem(c.of) == "" || s.fault() == nil || len(s.Metrics) < 50 {
				t.Errorf("problems %+v, %d metrics", s.Problems, len(s.Metrics))
			}
		})
	}
}

func TestSampleStaysWithinItsLimits(t *testing.T) {
	files := hostFiles()
	for i := range 300 {
		files["sys/fs/cgroup/"+strings.Repeat("x", i%200+1)+string(rune('a'+i%26))+"/pids.current"] = "1\n"
	}
	files["sys/fs/cgroup/cgroup.controllers"] = ""
	root := newRoot(t, files)
	s := sampled(t, root, `{"max_cgroups":20}`)
	groups := map[string]bool{}
	for _, m := range s.Metrics {
		if strings.HasPrefix(m.Name, "container_") {
			groups[m.Labels["id"]] = true
		}
	}
	if len(groups) == 0 || len(groups) > 20 || s.Dropped < 100 {
		t.Errorf("%d groups, %d dropped", len(groups), s.Dropped)
	}
	if s := sampled(t, root, `{"max_metrics":10}`); len(s.Metrics) != 10 || s.Dropped < 50 {
		t.Errorf("%d metrics, %d dropped", len(s.Metrics), s.Dropped)
	}
	var mounts strings.Builder
	for i := range 100 {
		mounts.WriteString("1 1 9:" + string(rune('0'+i%10)) + string(rune('0'+i/10)) + " / /gone/" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + " rw - ext4 /dev/x rw\n")
	}
	put(t, root, "proc/1/mountinfo", mounts.String())
	if s := sampled(t, root, `{}`); len(s.Problems) != maxProblems || s.Dropped == 0 {
		t.Errorf("%d problems, %d dropped", len(s.Problems), s.Dropped)
	}
}

func TestPathsThatAreNoMountPointsAreMeasured(t *testing.T) {
	root := newRoot(t, hostFiles())
	put(t, root, "srv/www/index.html", "")
	s := sampled(t, root, `{"mounts":["/srv/www","/nowhere"]}`)
	got := s.values(t)
	if got[`node_filesystem_avail_bytes{device="/dev/sda",fstype="ext4",mountpoint="/srv/www"}`] == 0 || s.problem("file system /nowhere") == "" {
		t.Errorf("%v, problems %+v", got, s.Problems)
	}
}

func TestEachProcessorIsToldIfAskedFor(t *testing.T) {
	got := sampled(t, newRoot(t, hostFiles()), `{"per_cpu":true}`).values(t)
	if got[`node_cpu_seconds_total{cpu="1",mode="user"}`] != 0.5 || got[`node_cpu_guest_seconds_total{cpu="1",mode="nice"}`] != 0.05 {
		t.Error(got)
	}
}

// TestThisHostIsSampled reads the real files, whatever this kernel has.
func TestThisHostIsSampled(t *testing.T) {
	s := sampled(t, "/", `{"cgroups":["/","/*","/*/*"]}`)
	got := s.values(t)
	for _, name := range []string{"machine_cpu_cores", `node_cpu_seconds_total{mode="idle"}`, "node_boot_time_seconds", "node_memory_MemAvailable_bytes", "node_processes_pids", "node_processes_threads", "node_filefd_allocated"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if !slices.ContainsFunc(s.Metrics, func(m metric) bool { return m.Name == "node_filesystem_size_bytes" && m.Value > 0 }) {
		t.Error("no file system has a size")
	}
	if err := s.fault(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/sys/fs/cgroup"); err == nil && !slices.ContainsFunc(s.Metrics, func(m metric) bool { return m.Name == "container_cpu_usage_seconds_total" && m.Value > 0 }) {
		t.Errorf("no group has used a processor: problems %+v", s.Problems)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d metrics, %d bytes, problems %+v", len(s.Metrics), len(data), s.Problems)
}

func BenchmarkSample(b *testing.B) {
	set, err := readSettings()
	if err != nil {
		b.Fatal(err)
	}
	h, err := newSampler(set, &statter{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(h.sample()); err != nil {
			b.Fatal(err)
		}
	}
}
