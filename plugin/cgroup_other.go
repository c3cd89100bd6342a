//go:build !linux

package plugin

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"
)

// cgroups and group exist on Linux only.
type (
	cgroups struct{}
	group   struct{}
)

func findCgroups(string, *slog.Logger) (*cgroups, error) {
	return nil, fmt.Errorf("cgroups: %w", errors.ErrUnsupported)
}

func (*cgroups) open(string, Limits, *holdings) (*group, error)  { return nil, errors.ErrUnsupported }
func (*cgroups) find(int, string, Limits) *group                 { return nil }
func (*cgroups) clear(string)                                    {}
func (*cgroups) sweep()                                          {}
func (*group) enter(*syscall.SysProcAttr) (done func(), _ error) { return func() {}, nil }
func (*group) admit(int) error                                   { return errors.ErrUnsupported }
func (*group) kill() error                                       { return errors.ErrUnsupported }
func (*group) remove(*slog.Logger)                               {}
func (*group) holds(Limits) holdings                             { return nil }
func (*group) exceeded() string                                  { return "" }
