//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime is what this process has taken of the processors so far, in
// its own code and in the kernel.
func processorTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
