//go:build !linux

package sdk

import "time"

// alarm has no counterpart here.
type alarm struct{}

func newAlarm() *alarm { return nil }

func (*alarm) set(time.Duration) {}
