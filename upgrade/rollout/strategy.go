package rollout

// DefaultCanary returns the stages of the default flow: 5 % of the agents with
// the label env=test, when more than 99.5 % of them have succeeded 30 % of those
// with env=production, and then all; of these at most a quarter at once.
func DefaultCanary() []Stage {
	quarter := Amount{BasisPoints: 2500}
	return []Stage{
		{Name: "test", Selector: "env=test", BasisPoints: 500},
		{Name: "production", Selector: "env=production", BasisPoints: 3000, MaxUnavailable: quarter},
		{Name: "all", BasisPoints: allBasisPoints, MaxUnavailable: quarter},
	}
}

// DefaultRolling returns the one stage of a rolling update: all, at most a tenth
// of them at once.
func DefaultRolling() []Stage {
	return []Stage{{Name: "all", BasisPoints: allBasisPoints, MaxUnavailable: Amount{BasisPoints: 1000}}}
}

// DefaultBlueGreen returns the stages of a blue-green update: all agents stage,
// and when they have, all switch, with a probation of soak at least, in which
// the way back is warm. The switch waits for an operator's promote if gate.
func DefaultBlueGreen(soak Seconds, gate bool) []Stage {
	return []Stage{
		{Name: "stage", BasisPoints: allBasisPoints},
		{Name: "switch", BasisPoints: allBasisPoints, Soak: soak, Manual: gate},
	}
}

// blueGreenSoak is how long the default blue-green update is warm.
const blueGreenSoak = Seconds(10 * 60)

// stages are those of a plan that has none.
func (s Strategy) stages() []Stage {
	switch s {
	case Canary:
		return DefaultCanary()
	case Rolling:
		return DefaultRolling()
	case BlueGreen:
		return DefaultBlueGreen(blueGreenSoak, true)
	}
	return nil
}
