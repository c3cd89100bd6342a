package plugin

import (
	"testing"
	"time"
)

// trialConfig has the documented defaults.
func trialConfig() *Config {
	c := &Config{}
	c.setDefaults()
	return c
}

func TestWaitsDoubleFromOneSecondToTwoMinutes(t *testing.T) {
	trial := trialConfig().fresh(&bundle{})
	for n, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 120, 120} {
		bound := time.Duration(seconds) * time.Second
		if wait := trial.backoff.Next(); wait < bound/2 || wait > bound {
			t.Errorf("wait %d: want %s to %s, found %s", n+1, bound/2, bound, wait)
		}
	}
}

func TestWaitsDifferBetweenPlugins(t *testing.T) {
	c, seen := trialConfig(), map[time.Duration]bool{}
	for range 10 {
		seen[c.fresh(&bundle{}).backoff.Next()] = true
	}
	if len(seen) < 5 {
		t.Errorf("ten plugins that fail together come back at %d times: %v", len(seen), seen)
	}
}

func TestPluginThatRanWellBeginsWithAShortWait(t *testing.T) {
	c := trialConfig()
	for ran, bound := range map[time.Duration]time.Duration{
		c.WellAfter - time.Second: 8 * time.Second,
		c.WellAfter:               time.Second,
	} {
		trial := c.fresh(&bundle{})
		for range 3 {
			trial.backoff.Next()
		}
		trial.crash(c, time.Now(), ran, "it ended")
		if wait := trial.backoff.Next(); wait < bound/2 || wait > bound {
			t.Errorf("after %s: want %s to %s, found %s", ran, bound/2, bound, wait)
		}
	}
}

func TestQuarantineNeedsFiveCrashesWithinTenMinutes(t *testing.T) {
	c := trialConfig()
	for every, want := range map[time.Duration]State{
		time.Second:                    Quarantined,
		2*time.Minute + 29*time.Second: Quarantined, // four times that is less than ten minutes
		2*time.Minute + 31*time.Second: "",
	} {
		trial, now := c.fresh(&bundle{}), time.Now()
		for n := range 20 {
			trial.crash(c, now.Add(time.Duration(n)*every), 0, "it ended")
			if n < 4 && trial.verdict != "" {
				t.Errorf("every %s: quarantined after %d crashes", every, n+1)
			}
			if n == 4 {
				break
			}
		}
		if trial.verdict != want {
			t.Errorf("five crashes, one every %s: want %q, found %q", every, want, trial.verdict)
		}
	}
}
