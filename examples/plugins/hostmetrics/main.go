// Command hostmetrics is a plugin that samples the host: CPU, memory, disks,
// file systems and network interfaces, read from /proc.
//
// Its capability is "collect": each result is one JSON object, a sample, and
// a task goes on until it is cancelled. There is no cursor: what was not
// sampled while the plugin was down cannot be had later.
//
// Settings (all optional):
//
//	interval: 10s      # between two samples, at least 100ms
//	proc: /proc        # where procfs is, e.g. /host/proc in a container
//	mounts: [/]        # file systems whose fill level is reported
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
	err := sdk.Serve(sdk.Config{Name: "hostmetrics", Version: version, Capabilities: []string{"collect"}}, &hostmetrics{})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "hostmetrics:", err)
		os.Exit(1)
	}
}
