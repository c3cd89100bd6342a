//go:build fault_told && !fault_unhealthy && !fault_crash

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/perennial-go/perennial/health"
)

// crash does nothing in this build.
func crash() {}

// faults makes a release that is bad for some hosts of a fleet only: those whose
// environment says so.
func faults(time.Time) []health.Check {
	return []health.Check{{
		Name:  "fault",
		Every: 100 * time.Millisecond,
		Func: func(context.Context) error {
			if os.Getenv("AGENTD_TEST_FAULT") != "" {
				return errors.New("this build is unhealthy where AGENTD_TEST_FAULT is set (build tag fault_told)")
			}
			return nil
		},
	}}
}
