//go:build !fault_unhealthy && !fault_crash && !fault_told

package main

import (
	"time"

	"github.com/perennial-go/perennial/health"
)

// crash does nothing in a build without faults.
func crash() {}

// faults are none in a build without faults.
func faults(time.Time) []health.Check { return nil }
