//go:build fault_unhealthy

package main

import (
	"context"
	"errors"
	"time"

	"github.com/perennial-go/perennial/health"
)

// crash does nothing in this build.
func crash() {}

// faults makes a release that starts well and turns unhealthy in probation,
// to show that it is rolled back.
func faults(started time.Time) []health.Check {
	return []health.Check{{
		Name:  "fault",
		Every: time.Second,
		Func: func(context.Context) error {
			if time.Since(started) > 2*time.Second {
				return errors.New("this build turns unhealthy 2s after its start (build tag fault_unhealthy)")
			}
			return nil
		},
	}}
}
