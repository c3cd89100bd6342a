// Package upgradetest holds what tests of programs that use package upgrade
// and of its extensions need. Only tests import it.
package upgradetest
