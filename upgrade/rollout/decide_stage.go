package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// conclude judges stage i, if it is time.
func (d *decision) conclude(i int) {
	s := &d.p.Stages[i]
	if n := owing(d.ahead(i)); n > 0 {
		d.held(s, n)
		return
	}
	if d.p.accepted(i) {
		d.pass(i, "promoted")
		return
	}
	if n := d.unsettled(i); n > 0 {
		d.waits(fmt.Sprintf("stage %s: %s under way", s.Name, agents(n)))
		return
	}
	if d.p.SoakSince.IsZero() && (s.Soak > 0 || len(s.Judge.Checks) > 0) {
		j := d.judge(i, 0)
		if v, why := j.verdict(d.serving(i)); v != Pass {
			d.rule(i, v, why) // there is nothing to wait for
			return
		}
		d.p.SoakSince = d.now
		d.write(EventSoaking, fmt.Sprintf("stage %s: all have ended, and are to run well for %v", s.Name, s.Soak.Duration()))
		return
	}
	end := d.p.SoakSince.Add(s.Soak.Duration())
	if !d.p.SoakSince.IsZero() && !d.due(end) {
		d.waits(fmt.Sprintf("stage %s soaks until %s", s.Name, end.UTC().Format(time.RFC3339)))
		return
	}
	d.judgeStage(i, end)
}

// held notes why n agents of the stage are not admitted. Where those who do not
// report an end have taken all the room it cannot end by itself.
func (d *decision) held(s *Stage, n int) {
	if d.books.Waits != "" { // no mark moves now
		return
	}
	if d.stuck() {
		d.enterState(Paused, EventPaused, fmt.Sprintf("stage %s: %s to come, and %s that do not report an end take all the places there are", s.Name, agents(n), agents(d.figures.Unavailable)))
		return
	}
	d.waits(fmt.Sprintf("stage %s: %s to come, %d unavailable", s.Name, agents(n), d.figures.Unavailable))
}

// stuck reports whether all that take up room are silent, and there is none left.
func (d *decision) stuck() bool {
	if mute := len(d.mute()); mute == 0 || mute < d.figures.Unavailable {
		return false
	}
	m := d.next(d.in.Snapshot.Revision)
	return len(m.admitted) == 0 && m.full
}

// unsettled is how many agents of the stage keep it from being judged: those that
// were admitted before its soak began. Others came late, of which there may
// always be some. On a probation that was asked for, those who serve are settled.
func (d *decision) unsettled(stage int) (n int) {
	for i := range d.agents {
		a := &d.agents[i]
		open := a.home == stage && (a.outcome == waiting || a.outcome == underWay)
		early := d.p.SoakSince.IsZero() || a.since.Before(d.p.SoakSince)
		if open && early && !d.serves(a) {
			n++
		}
	}
	return n
}

// serves reports whether a runs the target on a probation that was asked for.
func (d *decision) serves(a *agent) bool {
	return d.p.Instruction.Probation > 0 && a.m != nil && a.outcome == underWay &&
		a.m.Report != nil && a.m.Report.Request == d.p.Request() && a.m.Report.State == ReportStarted
}

func (d *decision) serving(stage int) (n int) {
	for i := range d.agents {
		if a := &d.agents[i]; a.home == stage && d.serves(a) {
			n++
		}
	}
	return n
}

// judgeStage comes to a verdict about stage i, whose soak ended at end.
func (d *decision) judgeStage(i int, end time.Time) {
	s := &d.p.Stages[i]
	serving := d.serving(i)
	j := d.judge(i, 0)
	v, why := j.verdict(serving)
	if v == Pass && len(s.Judge.Checks) > 0 {
		var told string
		if v, told, d.out.Ask = checks(s.Judge.Checks, d.in.CheckResults, end); v == Pending {
			d.waits(fmt.Sprintf("stage %s waits for the answers of %s", s.Name, strings.Join(names(d.out.Ask), ", ")))
			return
		}
		if v != Pass {
			why = "stage " + s.Name + ": " + told
		}
	}
	if v == Pass && serving > 0 {
		d.waits(fmt.Sprintf("stage %s has passed, %s on probation still", s.Name, agents(serving)))
		return
	}
	d.rule(i, v, why)
}

// rule does what a verdict on stage i leads to.
func (d *decision) rule(i int, v Verdict, why string) {
	switch v {
	case Fail:
		d.fail(why + d.examples(i))
	case Inconclusive:
		d.enterState(Paused, EventPaused, "inconclusive: "+why)
	default:
		d.pass(i, why)
	}
}

func names(list []Check) []string {
	var all []string
	for i := range list {
		all = append(all, list[i].Name)
	}
	return all
}

// pass ends stage i. Its mark goes as far as agents could rank: those who come
// later are late.
func (d *decision) pass(i int, why string) {
	if i == len(d.p.Stages)-1 && d.frozen { // what completes goes to all
		d.waits(frozenBy(d.in.Freeze))
		return
	}
	s := &d.p.Stages[i]
	why = fmt.Sprintf("stage %s passed: %s", s.Name, why)
	marks := make([]Mark, max(i+1, len(d.p.Cursor.Marks)))
	copy(marks, d.p.Cursor.Marks)
	if ahead := d.ahead(i); len(ahead) > 0 {
		if last := ahead[len(ahead)-1].rank; !marks[i].passes(last) {
			marks[i] = Mark{Open: true, Rank: last}
		}
		if s.whole() {
			marks[i] = Mark{Open: true, Rank: LastRank}
		}
	}
	d.p.Cursor.Marks = slices.Clip(marks)
	if i == len(d.p.Stages)-1 {
		d.complete(why)
		return
	}
	d.p.Stage, d.p.StageSince, d.p.SoakSince = i+1, time.Time{}, time.Time{}
	next := &d.p.Stages[i+1]
	if why += ", stage " + next.Name + " begins"; next.Manual && d.p.Promoted <= i+1 {
		why = strings.TrimSuffix(why, "begins") + "waits for promote"
	}
	d.p.Why = plain(why, maxText)
	d.write(EventStage, d.p.Why)
}
