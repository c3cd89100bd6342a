package plugin

import (
	"fmt"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// trial is one bundle and how it has fared: one generation, once it has been in
// charge.
type trial struct {
	bundle  *bundle
	crashes []time.Time
	backoff backoff.Backoff
	counted bool // it has been in charge
	// verdict is set once it is not to be started any more.
	verdict State
	reason  string
}

// fresh is a trial of b without a past.
func (c *Config) fresh(b *bundle) *trial {
	return &trial{bundle: b, backoff: backoff.Backoff{Min: c.BackoffMin, Max: c.BackoffMax}}
}

// crash adds a death at now, after the process was in charge for ran, and
// judges.
func (t *trial) crash(c *Config, now time.Time, ran time.Duration, why string) {
	if ran >= c.WellAfter {
		t.backoff.Reset()
	}
	t.crashes = slices.DeleteFunc(t.crashes, func(at time.Time) bool { return now.Sub(at) > c.CrashWindow })
	t.crashes = append(t.crashes, now)
	t.reason = why
	if len(t.crashes) >= c.CrashLimit {
		t.verdict = Quarantined
		t.reason = fmt.Sprintf("it failed %d times within %s, the last time: %s; replace its files, touch one of them, or restart it to try again", len(t.crashes), c.CrashWindow, why)
	}
}
