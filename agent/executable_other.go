//go:build !linux

package agent

// runningExecutable is none: here a path is all that there is, and another file
// may lie there since the start.
const runningExecutable = ""
