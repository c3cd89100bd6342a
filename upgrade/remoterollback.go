package upgrade

import (
	"fmt"

	"github.com/perennial-go/perennial/upgrade/release"
)

// RemoteRollback says which rollbacks a host makes that are asked for from
// outside it, by a Request with Remote. What is asked for on the host itself,
// and what it does of its own accord after a probation or a start that failed,
// is not bound by it.
type RemoteRollback string

// The rules.
const (
	// RemoteRollbackOffered allows those to a retained release that this host
	// does not know to be withdrawn; the default.
	RemoteRollbackOffered RemoteRollback = "offered"
	// RemoteRollbackAny also allows one to a withdrawn release, where the
	// request says AllowWithdrawn. So whoever can give orders can have the host
	// run a release whose faults are known.
	RemoteRollbackAny RemoteRollback = "any"
	// RemoteRollbackNever refuses them all.
	RemoteRollbackNever RemoteRollback = "never"
)

// Valid reports whether r is a rule this library knows.
func (r RemoteRollback) Valid() bool {
	switch r {
	case RemoteRollbackOffered, RemoteRollbackAny, RemoteRollbackNever:
		return true
	default:
		return false
	}
}

// mayRollBack applies the rule about rollbacks that are asked for from outside.
func (c Config) mayRollBack(r Request) error {
	if r.Remote && c.RemoteRollback == RemoteRollbackNever {
		return fmt.Errorf("%w: a rollback was ordered from outside, and this host makes none (--remote-rollback %s): ask for it on the host itself, with --state-dir", release.ErrPolicy, c.RemoteRollback)
	}
	return nil
}
