package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/ident"
)

// Kind says which answer a check takes part in.
type Kind string

// The kinds of a check.
const (
	// Readiness is the kind of a check that names none.
	Readiness Kind = "readiness"
	// Liveness is for what a restart of the process would repair.
	Liveness Kind = "liveness"
	// Both takes part in readiness and in liveness.
	Both Kind = "both"
	// Startup is for what must have been so once, such as a cache that was
	// filled. Until every check of this kind has passed the process is not
	// ready, and liveness is not judged. One that has passed is not asked
	// again; one that is added later begins startup anew.
	Startup Kind = "startup"
	// Informative checks are shown and measured and change no answer.
	Informative Kind = "informative"
)

func (k Kind) live() bool    { return k == Liveness || k == Both }
func (k Kind) ready() bool   { return k == Readiness || k == Both || k == Startup }
func (k Kind) startup() bool { return k == Startup }

// Check is a question asked on a schedule.
type Check struct {
	// Name is unique within a Monitor: letters, digits and "._/:-", at most
	// 128 bytes, starting with a letter or digit.
	Name string
	// Kind defaults to Readiness.
	Kind Kind
	// Every is the time between two starts; default 10 s. The first start is
	// at once. In between, and to any number of probes, the last result is the
	// answer.
	Every time.Duration
	// Timeout is when an unanswered check counts as failed; default 2 s.
	Timeout time.Duration
	// After names checks and conditions without which this one makes no sense,
	// such as that of a server before those of its tables. While one of them
	// fails, this one is not run, and fails with the text "not run: <name>
	// fails". It runs at once when they pass again. Liveness does not go by a
	// check that was not run: what it comes after may be no reason to restart the
	// process. They must be known when the check is added; one that is removed
	// later is not waited for.
	After []string
	// Func returns nil if all is well. It is never called concurrently with
	// itself. Its context ends after Timeout. A panic counts as a failure.
	Func func(context.Context) error
}

// Errors of AddCheck and New.
var (
	// ErrInvalid is wrapped by every refusal of a Config, Check or Rule.
	ErrInvalid = errors.New("invalid health configuration")
	// ErrDuplicate is wrapped when a name is taken already.
	ErrDuplicate = errors.New("name is taken")
)

// validName is what a check, condition, rule or indicator may be called.
func validName(name string) bool { return ident.Valid(name, "._/:-") }

const (
	defaultEvery   = 10 * time.Second
	defaultTimeout = 2 * time.Second
)

func (c Check) normalised() (Check, error) {
	if !validName(c.Name) {
		return c, fmt.Errorf("%w: check name %q: want letters, digits and ._/:-, starting with a letter or digit, at most 128 bytes", ErrInvalid, c.Name)
	}
	switch c.Kind {
	case "":
		c.Kind = Readiness
	case Readiness, Liveness, Both, Startup, Informative:
	default:
		return c, fmt.Errorf("%w: check %s: kind %q: want readiness, liveness, both, startup or informative", ErrInvalid, c.Name, c.Kind)
	}
	if c.Func == nil {
		return c, fmt.Errorf("%w: check %s has no Func: set the function that answers it", ErrInvalid, c.Name)
	}
	if c.Every < 0 || c.Timeout < 0 {
		return c, fmt.Errorf("%w: check %s: every %v, timeout %v: want 0 for the default or a positive time", ErrInvalid, c.Name, c.Every, c.Timeout)
	}
	if c.Every == 0 {
		c.Every = defaultEvery
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	c.After = slices.Clone(c.After)
	return c, nil
}
