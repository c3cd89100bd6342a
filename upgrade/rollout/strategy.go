package rollout

// DefaultCanary returns the stages of the default flow: 5 % of the agents with
// the label env=test, then 30 % of those with env=production, then all.
func DefaultCanary() []Stage {
	return []Stage{
		{Name: "test", Selector: "env=test", BasisPoints: 500},
		{Name: "production", Selector: "env=production", BasisPoints: 3000},
		{Name: "all", BasisPoints: 10000},
	}
}
