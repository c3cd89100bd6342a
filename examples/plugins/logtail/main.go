// Command logtail is a plugin that follows text files, line by line, across
// rotation and across its own restarts and those of its host.
//
// Its capability is "collect": a result is one JSON object a line of the files,
// and a cursor after them; a task goes on until it is cancelled. Executed again
// with the last cursor that was made durable, it delivers every line once:
//
//   - rotated by renaming, also several times between two looks and while the
//     plugin did not run, as long as the files stay in their directory, have a
//     number, a date or "old" behind their name (or a date before its
//     extension), and are not compressed: compressed files are never read;
//   - rotated by copying and truncating, also if lines that were not read yet
//     are in the copy alone;
//   - deleted and made again, also with the same inode.
//
// Lost are lines that were deleted, truncated away, compressed, or moved out of
// the directory before they were read, and those that a program writes between
// the copying and the truncating. If the plugin was started again before it saw
// such a rotation, it reads a copy of less than 256 bytes twice where a line
// that came between was read. A log that is rotated in both ways in turn may
// have lines read twice. The order is kept within a file.
//
// A line counts once it is complete. The unfinished last line of a file that
// was rotated away and has not grown for linger counts too. A line that is too
// long comes in several records, all but the last marked as cut, which is told
// in the log. Text that is not UTF-8 comes with its bytes beside it. Files that
// match and cannot be read, or are too many, are told in the plugin's health.
//
// Files are looked at by stat, which works on every file system: while nothing
// changes a look costs one system call for each file and each directory.
//
// Settings:
//
//	paths: [/var/log/app/*.log]  # absolute patterns as in a shell, or directories
//	                             # for the files in them; required
//	interval: 500ms              # between two looks, at least 10ms
//	start: beginning             # or end: where a task without cursor begins
//	linger: 5s                   # how long a file that was rotated away and does
//	                             # not grow is watched for the end of its last
//	                             # line, or held open if it was deleted
//	max_line_bytes: 65536        # of a line or event, at most 131072
//	max_files: 256               # followed at a time, at most 1024
//	multiline:                   # none by default
//	  first: '^[0-9]{4}-'        # RE2 pattern of the first line of an event
//	  max_lines: 500             # longer events are cut
//	  wait: 2s                   # an event ends when nothing was written for so long
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
	err := sdk.Serve(sdk.Config{Name: "logtail", Version: version, Capabilities: []string{"collect"}}, &logtail{log: sdk.Logger()})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "logtail:", err)
		os.Exit(1)
	}
}
