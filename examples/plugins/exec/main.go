// Command exec is a plugin that runs commands as tasks: only those that its
// settings name, with fixed arguments into which a task may put values that
// match patterns. There is no shell, so that nothing in a value has a meaning
// but its own.
//
// Its capability is "exec". A task's payload is
//
//	{"command": "disk-usage", "params": {"path": "/var/log"}}
//
// and anything else is refused for good. What the command writes comes as
// results while it runs, and how it ended is the last one:
//
//	{"source":"exec","command":"disk-usage","stream":"stdout","text":"4096\t/var/log\n"}
//	{"source":"exec","command":"disk-usage","exit_code":0,"duration_ms":12,"stdout_bytes":14,"stderr_bytes":0}
//
// Output that is not UTF-8 is in "base64" in place of "text".
//
// # Settings
//
//	concurrency: 4           # commands at once, 1 to 64; further tasks wait
//	commands:
//	  disk-usage:
//	    path: /usr/bin/du    # absolute; not writable by group or others
//	    args: [-s, --, "${path}"]
//	    params:
//	      path:
//	        pattern: /var/log(/[a-z0-9.-]+)*  # matches the whole value
//	        default: /var/log                 # without one it must be given
//	        leading_dash: false    # whether an argument may begin with a dash
//	                               # by it, and so be an option
//	    env: {LC_ALL: C}     # values may hold ${path} too
//	    dir: /               # working directory
//	    user: nobody         # whom to run it as; the plugin must be root's
//	    timeout: 1m          # up to 24h
//	    grace: 5s            # from SIGTERM to SIGKILL, up to 1m
//	    max_output: 1048576  # bytes of both streams, up to 64 MiB; what
//	                         # exceeds it is counted and thrown away
//	    failure: retry       # what an exit code other than 0, a signal or the
//	                         # timeout is: retry or permanent
//
// "$${" stands for "${". The command's environment is PATH, HOME, TZ, LANG,
// LC_ALL and TMPDIR of the plugin's, what env says, and PERENNIAL_TASK_ID,
// PERENNIAL_TASK_ATTEMPT (0 the first time) and PERENNIAL_TASK_KEY, the task's
// idempotency key: a task may run more than once, and a command that must not
// have its effect twice looks at the key.
//
// # What is ended
//
// When a task is cancelled, runs too long, or the plugin stops or is killed,
// the command's process group gets SIGTERM and, after the grace, SIGKILL. When
// the command has ended, so do the processes that it left behind, also those
// that went into the background or made a session of their own: each command
// is kept by a process that becomes the parent of what it leaves. Nothing but
// Linux can do that, and on other systems the plugin does not start.
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
	if isKeeper(os.Args) {
		os.Exit(keep())
	}
	err := sdk.Serve(sdk.Config{Name: "exec", Version: version, Capabilities: []string{capability}}, &executor{})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "exec:", err)
		os.Exit(1)
	}
}
