//go:build fault_crash && !fault_unhealthy

package main

import (
	"time"

	"github.com/perennial-go/perennial/health"
)

// crash makes a release that dies at its start, to show that it is refused.
func crash() { panic("this build crashes at its start (build tag fault_crash)") }

// faults are none: the program does not get that far.
func faults(time.Time) []health.Check { return nil }
