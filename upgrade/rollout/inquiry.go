package rollout

import (
	"context"
	"fmt"
	"maps"
	"sync"
)

// maxAsked bounds how many checks are asked at once.
const maxAsked = 32

// inquiry asks checks in the background, and keeps their answers for as long as
// the stage that they are about lasts.
type inquiry struct {
	checkers map[string]Checker
	answered func()
	asking   sync.WaitGroup

	mu      sync.Mutex
	about   string // what answers are of
	answers map[string]CheckResult
	asked   map[string]bool // those that are asked, with what they are about
}

func newInquiry(checkers map[string]Checker, answered func()) *inquiry {
	return &inquiry{checkers: checkers, answered: answered, answers: map[string]CheckResult{}, asked: map[string]bool{}}
}

// aboutOf names what the answers to the checks of p are of. Once it is resumed they are
// of something else. That is not told by their times: an operator's clock is another.
func aboutOf(p *Plan) string {
	return fmt.Sprintf("%s.%d.%d@%d@%d", p.ID, p.Instruction.Number, p.Stage, p.StageSince.UnixNano(), p.Since.UnixNano())
}

// results are the answers for p.
func (c *inquiry) results(p *Plan) map[string]CheckResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	if about := aboutOf(p); c.about != about {
		c.about, c.answers = about, map[string]CheckResult{}
	}
	return maps.Clone(c.answers)
}

// ask asks those of checks that are not being asked.
func (c *inquiry) ask(ctx context.Context, checks []Check, p *Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, check := range checks {
		about := aboutOf(p)
		key := about + " " + check.Name
		if c.asked[key] || len(c.asked) >= maxAsked {
			continue
		}
		c.asked[key] = true
		c.asking.Go(func() {
			r := ask(ctx, c.checkers[check.Kind], check, p)
			c.mu.Lock()
			delete(c.asked, key)
			if c.about == about {
				c.answers[check.Name] = r
			}
			c.mu.Unlock()
			c.answered()
		})
	}
}

// wait returns once nothing is asked any more.
func (c *inquiry) wait() { c.asking.Wait() }
