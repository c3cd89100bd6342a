package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestOneStepOfALargeFleetFitsIntoOneTransaction: etcd would refuse it, and the rollout
// stand still with all of its agents under way.
func TestOneStepOfALargeFleetFitsIntoOneTransaction(t *testing.T) {
	const most = 1.5*(1<<20) - 8<<10 // etcd's limit, without a record and keys
	now := time.Now()
	for _, length := range []int{11, 64, 128} {
		p := Plan{ID: strings.Repeat("r", maxRolloutID), Instruction: Instruction{Number: 1}, Stages: make([]Stage, maxStages)}
		c := &census{p: &p, now: now, books: Books{Rollout: p.ID, Number: 1}.copied()}
		id := func(i int) string { return fmt.Sprintf("%0*d", length, i) }
		for i := range 10_000 {
			c.track(id(i), Entrant{Since: now, Stage: maxStages - 1, Started: true, Gone: now})
			if i < 5000 {
				c.agents = append(c.agents, agent{id: id(i), outcome: failed, reason: strings.Repeat(`"`, maxLossReason)})
			}
		}
		c.lose(nil)
		tracked, lost := len(c.books.UnderWay), c.books.Lost
		p.Instruction.Number = 2 // all of them may still be at the first
		b := c.books.forPlan(&p, now)
		b.Lost, b.Stages = lost, make([]Figures, maxStages)
		text, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ids of %d bytes: %d under way, %d lost: %d bytes", length, tracked, len(lost), len(text))
		if len(b.Former) != tracked || len(text)+MaxPlanBytes > most {
			t.Errorf("ids of %d bytes: %d under way and %d lost take %d bytes beside a plan of %d", length, len(b.Former), len(lost), len(text), MaxPlanBytes)
		}
		if length == 11 && tracked < 9000 {
			t.Errorf("only %d of 10,000 agents are told apart", tracked)
		}
	}
}
