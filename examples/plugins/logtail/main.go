// Command logtail is a plugin that follows text files, line by line, across
// rotation (by renaming or by copying and truncating) and across its own
// restarts.
//
// Its capability is "collect": each result is one JSON object, a line, with a
// cursor after it; a task goes on until it is cancelled. Executed again with
// the last cursor that was made durable, it delivers every line at least once,
// also those of a file that was renamed meanwhile within its directory. Lost
// are lines that were deleted, truncated away, or moved out of the directory
// before they were read. With start: end, what is written between a task's
// begin and its first result is not covered by a cursor yet.
//
// Settings:
//
//	paths: [/var/log/app/*.log]  # absolute patterns as in a shell; required
//	interval: 500ms              # between two looks, at least 10ms
//	start: beginning             # or end: where a task without cursor begins
//	linger: 5s                   # how long a file that was rotated away and does
//	                             # not grow is still watched
//	max_line_bytes: 65536        # longer lines are cut into several records
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
	err := sdk.Serve(sdk.Config{Name: "logtail", Version: version, Capabilities: []string{"collect"}}, &logtail{})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "logtail:", err)
		os.Exit(1)
	}
}
