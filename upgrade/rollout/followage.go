package rollout

import (
	"fmt"
	"time"
)

// planAge tells how far plans had got, of those that an agent has followed.
type planAge struct {
	Rollout string    `json:"rollout"`
	Created time.Time `json:"created"`
	Number  int       `json:"number"` // of the instruction
}

func ageOf(p *Plan) planAge { return planAge{p.ID, p.Created, p.Instruction.Number} }

// refuses says why p is not to be followed after a; nil = it may be. What etcd held
// before it went back in time would have the whole fleet do again what it has left:
// at once, since its marks have passed all, and nobody counts.
func (a planAge) refuses(p *Plan, mod int64) error {
	const advice = "start a rollout of what is to run"
	switch {
	case p.foreign(mod):
		return fmt.Errorf("it was written at revision %d, and its agents were counted at %d: etcd is another, or has gone back in time; its controller counts them anew", mod, p.Cursor.counted())
	case p.ID == a.Rollout && p.Instruction.Number < a.Number:
		return fmt.Errorf("it is at instruction %d of rollout %s, of which this agent has followed number %d: etcd has gone back in time; %s", p.Instruction.Number, p.ID, a.Number, advice)
	case p.ID != a.Rollout && p.Created.Before(a.Created):
		return fmt.Errorf("rollout %s is older than %s, which this agent has followed: etcd has gone back in time; %s", p.ID, a.Rollout, advice)
	}
	return nil
}
