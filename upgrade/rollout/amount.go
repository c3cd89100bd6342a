package rollout

import (
	"fmt"
	"strconv"
)

// allBasisPoints are all, in hundredths of a percent.
const allBasisPoints = 10000

// Of is a of n agents: never 0 unless a is zero.
func (a Amount) Of(n int) int {
	if a.Agents > 0 {
		return a.Agents
	}
	return part(a.BasisPoints, n)
}

// IsZero reports whether a is not set.
func (a Amount) IsZero() bool { return a == Amount{} }

// String is "5" or "2.5%".
func (a Amount) String() string {
	if a.BasisPoints > 0 {
		return strconv.FormatFloat(float64(a.BasisPoints)/100, 'f', -1, 64) + "%"
	}
	return strconv.Itoa(a.Agents)
}

func (a Amount) validate() error {
	switch {
	case a.Agents < 0 || a.Agents > maxAgents:
		return fmt.Errorf("%d agents: want 1 to %d", a.Agents, maxAgents)
	case a.BasisPoints < 0 || a.BasisPoints > allBasisPoints:
		return fmt.Errorf("%d basis points: want 1 to %d, in hundredths of a percent", a.BasisPoints, allBasisPoints)
	case a.Agents > 0 && a.BasisPoints > 0:
		return fmt.Errorf("%d agents and %d basis points: want one of both", a.Agents, a.BasisPoints)
	}
	return nil
}

// part is so many basis points of n, rounded up, so that it is never none of
// some.
func part(basisPoints, n int) int {
	if basisPoints <= 0 {
		return 0
	}
	return max(1, (n*basisPoints+allBasisPoints-1)/allBasisPoints)
}
