package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// judgement is what the agents of a stage come to. Each agent is judged in the
// stage that was the first to admit it.
type judgement struct {
	stage *Stage
	Figures
	open int // have not ended, or are not admitted yet
	size int // of what the stage selects
}

// judge looks at stage; ahead is how many it is still to admit.
func (c *census) judge(stage, ahead int) judgement {
	f := c.stages[stage]
	return judgement{&c.p.Stages[stage], f, f.Waiting + f.UnderWay + ahead, c.sizes[stage]}
}

// above is what the percentage must be greater than.
func (s *Stage) above() float64 {
	if s.Judge.SuccessAbove != nil {
		return *s.Judge.SuccessAbove
	}
	return DefaultSuccessAbove
}

func (j *judgement) passes(good, sample int) bool {
	return 100*float64(good) > j.stage.above()*float64(sample)
}

// enough reports whether so many ended that it means anything.
func (j *judgement) enough() bool {
	return j.sample() >= min(max(1, j.stage.Judge.MinSample), j.sample()+j.open+j.Gone+j.Held)
}

// hopeless says why the stage cannot pass any more, even if all that are still to
// end succeed; "" = it can.
func (j *judgement) hopeless() string {
	if j.bad() == 0 || !j.enough() || j.passes(j.Succeeded+j.open, j.sample()+j.open) {
		return ""
	}
	return j.failure()
}

func (j *judgement) failure() string {
	why := fmt.Sprintf("stage %s failed: %d of %s failed", j.stage.Name, j.bad(), agents(j.sample()))
	if j.Silent > 0 {
		why += fmt.Sprintf(" (%d of them silent)", j.Silent)
	}
	return fmt.Sprintf("%s, where more than %v %% are to succeed", why, j.stage.above())
}

// verdict is of agents that have all ended, or serve on a probation that was
// asked for.
func (j *judgement) verdict(serving int) (Verdict, string) {
	good, sample := j.Succeeded+serving, j.sample()+serving
	switch {
	case j.size == 0:
		return Inconclusive, fmt.Sprintf("stage %s selects no agent", j.stage.Name)
	case sample == 0 && j.Gone+j.Held == 0:
		return Pass, "nobody was left to be admitted"
	case sample < min(max(1, j.stage.Judge.MinSample), sample+j.Gone+j.Held):
		return Inconclusive, fmt.Sprintf("%d of stage %s succeeded or failed, where %d are wanted: %d left the registry, %d are held", sample, j.stage.Name, j.stage.Judge.MinSample, j.Gone, j.Held)
	case !j.passes(good, sample):
		return Fail, j.failure()
	}
	return Pass, fmt.Sprintf("%d of %s succeeded", good, agents(sample))
}

// checks is what the answers to a stage's checks come to, and which of them are
// to be asked. An answer from before since is to another question.
func checks(list []Check, answers map[string]CheckResult, since time.Time) (verdict Verdict, why string, ask []Check) {
	var told []string
	worst := Pass
	for i := range list {
		c := list[i]
		answer, ok := answers[c.Name]
		if !ok || answer.At.Before(since) {
			ask = append(ask, c)
			continue
		}
		if answer.Verdict != Pass {
			told = append(told, fmt.Sprintf("check %s: %s: %s", c.Name, answer.Verdict, plain(answer.Detail, maxLossReason)))
		}
		switch {
		case answer.Verdict == Fail:
			worst = Fail
		case answer.Verdict != Pass && worst == Pass:
			worst = Inconclusive
		}
	}
	if worst != Fail && len(ask) > 0 {
		return Pending, "", ask
	}
	return worst, strings.Join(told, "; "), nil
}

// failing says why a stage that has begun cannot pass any more, or does not any
// more although it had: agents that fell back later count, too.
func (c *census) failing() string {
	ahead := 0
	if c.p.Stage < len(c.p.Stages) {
		ahead = owing(c.ahead(c.p.Stage))
	}
	for i := range min(c.p.Stage+1, len(c.p.Stages)) {
		if c.p.accepted(i) {
			continue
		}
		left := 0
		if i == c.p.Stage {
			left = ahead
		}
		j := c.judge(i, left)
		if why := j.hopeless(); why != "" {
			return why + c.examples(i)
		}
	}
	return ""
}

// examples names the first agents of a stage that failed.
func (c *census) examples(stage int) string {
	const most = 3
	var named []string
	for i := range c.agents {
		a := &c.agents[i]
		if a.home == stage && (a.outcome == failed || a.outcome == silent) && len(named) < most {
			named = append(named, a.id+": "+plain(a.reason, maxLossReason))
		}
	}
	if len(named) == 0 {
		return ""
	}
	slices.Sort(named)
	return " (" + strings.Join(named, "; ") + ")"
}

// accepted reports whether an operator has promoted the stage after it: then this
// one is as it is.
func (p *Plan) accepted(stage int) bool { return p.Promoted > stage+1 }

// checkGrace is how long a check may fail after the change before that counts: it
// may be no more than a moment.
const checkGrace = 5 * time.Second

// alarmed names an alert that began to fire, or a check that began to fail, after
// the agent's change, by the agent's own clock. What did before it begins anew in
// the process that the change started. open: a check fails, and not for long enough
// yet.
func (c *census) alarmed(a *agent, r *Report) (why string, open bool) {
	least := c.p.Stages[max(a.home, 0)].Judge.AlertSeverity
	for i := range a.m.Alerts {
		alert := &a.m.Alerts[i]
		counts := least != "none" && !slices.Contains(r.Before, alert.Name) && (alert.Severity == "critical" || alert.Severity == least)
		switch {
		case !counts || !alert.Since.After(r.At):
		case !alert.Check:
			return fmt.Sprintf("alert %s fires since its change", alert.Name), false
		case c.due(a.m.began(alert).Add(checkGrace)):
			return fmt.Sprintf("check %s fails since its change", alert.Name), false
		default:
			open = true
		}
	}
	return "", open
}
