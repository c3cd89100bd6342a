package upgrade

// Pulse is told by Run that it goes round; a *health.Pulse is one.
type Pulse interface {
	// Beat is called in each turn, each HealthEvery at least.
	Beat()
	// Rest is called before what may take long and has deadlines of its own, an
	// attempt or a probation, and at the end. A Beat follows it.
	Rest()
}

type noPulse struct{}

func (noPulse) Beat() {}
func (noPulse) Rest() {}
