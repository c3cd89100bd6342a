// Command hostmetrics is a plugin that samples the host: CPU, load, memory,
// swap, disks, file systems, network interfaces, processes, pressure, and
// groups of processes (cgroups, version 1 and 2).
//
// Its capability is "collect": each result is one JSON object, a sample, and
// a task goes on until it is cancelled. There is no cursor: what was not
// sampled while the plugin was down cannot be had later.
//
//	{"time":"…","source":"hostmetrics","host":"web-1","metrics":[
//	  {"name":"node_cpu_seconds_total","labels":{"mode":"user"},"value":12.5},
//	  {"name":"node_load1","value":0.3}, …],
//	 "problems":[{"of":"pressure","error":"…"}],"dropped":0}
//
// Names, labels and units are Prometheus': those of node_exporter for the
// host, those of cAdvisor for groups, whose label id is the group's path, and
// the kubelet's for the working set. One name is the plugin's own:
// node_memory_working_set_limit_bytes, what the working set is measured
// against; its label basis says what that limit is of. Values named …_total
// count since the host or the group began; rates are the reader's to compute.
//
// What cannot be read is named in the sample's problems, and in the log when
// it begins, and the rest is sampled all the same. A file that is not there,
// as pressure on a kernel without it, is no fault; anything else makes the
// plugin's health a problem.
//
// Settings (all optional):
//
//	interval: 10s         # between two samples, at least 100ms
//	root: /               # where the host's / is, e.g. /host in a container:
//	                      # process 1 of there is then asked for mounts,
//	                      # interfaces and memory's limit
//	per_cpu: false        # CPU time of each processor, not of all together
//	mounts: []            # file systems; none given are all that hold files
//	skip_devices: [loop*, ram*]    # patterns of disks
//	skip_interfaces: [veth*]       # patterns of network interfaces
//	cgroups: [/, /*]      # patterns of groups; a * stays within one level,
//	                      # at most 8 levels
//	max_cgroups: 100      # groups sampled, at most 1000
//	max_metrics: 5000     # values in a sample, at most 50000; what exceeds it
//	                      # is counted as dropped
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "0.0.0-dev" //nolint:gochecknoglobals // set by the linker

func main() {
	err := sdk.Serve(sdk.Config{Name: "hostmetrics", Version: version, Capabilities: []string{"collect"}}, &hostmetrics{log: sdk.Logger()})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "hostmetrics:", err)
		os.Exit(1)
	}
}
