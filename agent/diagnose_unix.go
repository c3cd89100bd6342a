//go:build unix

package agent

import "syscall"

// openNonblock keeps the opening of a FIFO from waiting for a writer.
const openNonblock = syscall.O_NONBLOCK
