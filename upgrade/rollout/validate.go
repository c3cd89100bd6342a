package rollout

import (
	"encoding/json"
	"fmt"
)

// WithDefaults returns p with the defaults of what is zero.
func (p Plan) WithDefaults() Plan { return p }

// Validate reports what keeps p from being followed. It is to have its
// defaults.
func (p *Plan) Validate() error { return nil }

// ParsePlan reads the value of plan/<fleet>.
func ParsePlan(data []byte) (Plan, error) {
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	return p, p.Validate()
}
