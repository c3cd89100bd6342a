package agent

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/health"
)

// addAlerts gives the test agent an alert for each file of that name that is
// in its state directory, "upgrading", which fires while an attempt is under
// way and somewhat longer, and what is to be done about them.
func addAlerts(cfg *Config, responses []string, upgrading func() bool) error {
	for _, text := range responses {
		r, err := ParseResponse(text)
		if err != nil {
			return err
		}
		cfg.Responses = append(cfg.Responses, r)
	}
	add := func(name string, keep time.Duration, is func() bool) {
		cfg.Health.Indicators = append(cfg.Health.Indicators, health.Indicator{
			Name: name, Every: 20 * time.Millisecond, Rules: []health.Rule{{Above: 0, KeepFiring: keep}},
			Measure: func(context.Context) (health.Sample, error) {
				if is() {
					return health.Sample{Value: 1}, nil
				}
				return health.Sample{}, nil
			},
		})
	}
	for _, name := range []string{"hot", "sick", "dead"} {
		add(name, 0, func() bool {
			_, err := os.Stat(filepath.Join(cfg.StateDir, name))
			return err == nil
		})
	}
	add("upgrading", time.Minute, upgrading)
	return nil
}
