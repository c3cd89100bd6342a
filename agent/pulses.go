package agent

import (
	"time"

	"github.com/perennial-go/perennial/health"
)

// stuckAfter is how long a loop of the agent may be silent beyond its own pauses
// before the process counts as dead. It is far longer than any deadline of what
// the loops do, so that nothing outside the process, such as etcd, is mistaken
// for a deadlock. A state directory that hangs for so long counts as well: the
// agent can neither be upgraded nor remember anything.
const stuckAfter = 5 * time.Minute

// pulses are of the loops that an agent cannot do without.
type pulses struct {
	upgrades, publisher *health.Pulse
}

func newPulses(m *health.Monitor, statusEvery time.Duration) (p pulses, err error) {
	if p.upgrades, err = m.Pulse("loop/upgrades", stuckAfter); err != nil {
		return p, err
	}
	p.publisher, err = m.Pulse("loop/publisher", 2*statusEvery+stuckAfter)
	p.publisher.Rest() // it begins once this process is in charge
	return p, err
}

// upgradePulse is the pulse of the upgrader, which is made before the monitor.
type upgradePulse struct{ *Agent }

func (p upgradePulse) Beat() { p.pulses.upgrades.Beat() }
func (p upgradePulse) Rest() { p.pulses.upgrades.Rest() }
