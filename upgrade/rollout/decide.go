package rollout

import (
	"fmt"
	"time"
)

// Input is all that a decision depends on.
type Input struct {
	Plan  Plan
	Books Books
	// Snapshot is not older than Plan and Books, and Members are sorted by ID.
	Snapshot Snapshot
	// Left are those who have left the registry in the time Remembered, as they
	// were, also where they are back. Unwatched: others may have, since nobody who
	// could name them has watched it for that long.
	Left      []*Member
	Unwatched bool
	// Freeze is nil while the fleet is not frozen.
	Freeze *Freeze
	// CheckResults are the answers to what an earlier Output asked, by Check.Name,
	// for a plan with the same Since: once it is resumed, checks are asked anew.
	CheckResults map[string]CheckResult
	Now          time.Time
}

// CheckResult is the answer to a Check.
type CheckResult struct {
	// Verdict is Pass, Fail or Inconclusive; Detail says why, with the figure.
	Verdict Verdict
	Detail  string
	// At is when it was asked: an answer from before the soak ended is not used.
	At time.Time
}

// Output is what is to be done.
type Output struct {
	// Plan is what is to be written if Changed, and Draft the record that goes
	// with it. Seq and History are as they were: whoever writes sets them.
	Plan    Plan
	Changed bool
	Draft   Draft
	// Books are as they are now. They are written in the transaction of the plan,
	// and alone if only BooksChanged.
	Books        Books
	BooksChanged bool
	// Ask are the checks whose answer is needed and not among CheckResults.
	Ask []Check
	// Wake is when to decide again though nothing has changed; zero = need not.
	// Where Changed, decide again at once, on top of what was written.
	Wake    time.Time
	Figures Figures
}

// Draft is what the engine says of a Record.
type Draft struct {
	Event   Event
	Why     string
	Figures Figures
}

// Decide tells what comes next in a rollout: at most one change of the plan. It
// does nothing but compute, so that another controller that reads the same plan
// and books comes to the same. It changes nothing of in. An error is of a plan
// that cannot be followed, and stays until it is another.
func Decide(in Input) (Output, error) {
	if err := in.Plan.Validate(); err != nil {
		return Output{}, err
	}
	d, err := decide(&in, in.Plan, in.Books)
	if err != nil {
		return Output{}, err
	}
	switch revert := d.p.Instruction.Action == ActRevert; d.p.State {
	case Running, Reverting:
		if revert {
			d.reverting()
		} else {
			d.running()
		}
	case Paused:
		if why := d.failing(); !revert && why != "" {
			d.fail(why)
		}
	case Completed, Reverted:
		d.admit("%s that came late")
	case Halted: // an operator's, but what can go back still does
		if revert {
			d.reverting()
		}
	case Aborted: // an operator's
	}
	return d.out, d.err
}

// decision is what a census leads to.
type decision struct {
	*census
	in  *Input
	out Output
	err error
}

func decide(in *Input, p Plan, books Books) (*decision, error) {
	// As it is written, so that it is the same to whoever reads it.
	now := in.Now.UTC().Truncate(time.Millisecond)
	c, err := takeCensus(in, &p, books, now)
	if err != nil {
		return nil, err
	}
	d := &decision{census: c, in: in}
	d.keep()
	return d, nil
}

// keep has the output be as the census is now.
func (d *decision) keep() {
	d.figures.Target = d.figures.Admitted + d.figures.Late
	if d.p.Instruction.Action == ActRevert {
		d.figures.Target = d.figures.Admitted + owing(d.everybody())
	} else if i := d.p.Stage; i < len(d.p.Stages) && !d.p.State.Over() {
		d.figures.Target = d.figures.Admitted + owing(d.ahead(i))
	}
	d.books.Figures, d.books.Stages = d.figures, d.begun()
	d.out.Plan, d.out.Books, d.out.Figures, d.out.Wake = *d.p, d.books, d.figures, d.wake
	d.out.BooksChanged = !d.books.equal(d.before)
}

// begun are the figures of the stages that have.
func (d *decision) begun() []Figures {
	if d.p.Instruction.Action == ActRevert {
		return nil
	}
	return d.stages[:min(len(d.stages), max(d.p.Stage+1, len(d.p.Cursor.Marks)))]
}

// waits says what the rollout waits for.
func (d *decision) waits(why string) {
	d.books.Waits = why
	d.keep()
}

// write has the plan written, with a record of event.
func (d *decision) write(event Event, why string) {
	d.books.Waits = ""
	if err := d.doubt(); err != nil {
		d.err = err
		return
	}
	d.keep()
	d.out.Changed = true
	d.out.Draft = Draft{Event: event, Why: why, Figures: d.figures}
}

// enterState moves the plan to another state.
func (d *decision) enterState(s State, event Event, why string) {
	why = plain(why, maxText)
	d.p.State, d.p.Why, d.p.Since = s, why, d.now
	d.write(event, why)
}

// running takes a rollout on: a failure first, then agents, then the end of the
// stage.
func (d *decision) running() {
	if why := d.failing(); why != "" {
		d.fail(why)
		return
	}
	i := d.p.Stage
	if i >= len(d.p.Stages) {
		d.complete("all stages have passed")
		return
	}
	s := &d.p.Stages[i]
	if s.Manual && d.p.Promoted <= i {
		d.waits(fmt.Sprintf("stage %s waits for promote", s.Name))
		return
	}
	if d.switches() {
		d.switchAll()
		return
	}
	if d.admit("stage " + s.Name + ": %s") {
		return
	}
	d.conclude(i)
}

// admit moves the cursor as far as may be now, and reports whether it did. told
// has a %s for how many that are.
func (d *decision) admit(told string) bool {
	if d.barred() {
		return false
	}
	m := d.next(d.in.Snapshot.Revision)
	if !d.worth(&m) {
		return false
	}
	d.enter(&m)
	if d.p.StageSince.IsZero() {
		d.p.StageSince = d.now
	}
	d.write(EventAdmitted, fmt.Sprintf(told, agents(len(m.admitted))+" more"))
	return true
}

// barred reports whether no mark moves now, and notes why.
func (d *decision) barred() bool {
	if d.frozen {
		d.waits(frozenBy(d.in.Freeze))
		return true
	}
	if d.p.Instruction.Action == ActRevert {
		return false
	}
	s := d.limiting()
	open, next := opening(s.Windows, d.now)
	if !open {
		d.due(next)
		d.waits(fmt.Sprintf("stage %s waits for its window, which opens %s", s.Name, next.UTC().Format(time.RFC3339)))
	}
	return !open
}

func frozenBy(f *Freeze) string {
	why := "the fleet is frozen"
	if f.By != "" {
		why += " by " + f.By
	}
	if f.Reason != "" {
		why += ": " + f.Reason
	}
	return plain(why, maxText)
}

// switches reports whether the last stage of a blue-green rollout is to begin.
func (d *decision) switches() bool {
	return d.p.Strategy == BlueGreen && d.p.Stage == len(d.p.Stages)-1 && d.p.Instruction.Action == ActStage
}

// switchAll has all agents run what they have staged, with one write.
func (d *decision) switchAll() {
	if d.barred() {
		return
	}
	p := *d.p
	last := len(p.Stages) - 1
	p.Instruction = Instruction{Number: p.Instruction.Number + 1, Action: ActSwitch, Probation: p.Stages[last].probation()}
	p.Cursor = Cursor{AsOf: d.in.Snapshot.Revision, Marks: make([]Mark, last+1), Steps: []Step{{At: d.now, Agents: d.sizes[last]}}}
	p.Cursor.Marks[last] = Mark{Open: true, Rank: LastRank}
	p.StageSince, p.SoakSince = d.now, time.Time{}
	if d.turn(p) {
		d.write(EventSwitched, fmt.Sprintf("%s switch", agents(d.figures.Admitted)))
	}
}

// probation is how long at least those who switch are on probation: the soak, and
// until it has been judged.
func (s *Stage) probation() Seconds {
	asked := Seconds(0)
	for i := range s.Judge.Checks {
		c := &s.Judge.Checks[i]
		asked = max(asked, 2*c.Timeout*Seconds(c.Attempts)) // with the pauses
	}
	if s.Soak == 0 {
		return 0
	}
	return min(s.Soak+s.Soak/4+asked, maxDuration)
}

// turn has d be about p, which has another instruction.
func (d *decision) turn(p Plan) bool {
	next, err := decide(d.in, p, d.books)
	if d.err = err; err != nil {
		return false
	}
	*d = *next
	return true
}

// fail does what the plan wants of a failure.
func (d *decision) fail(why string) {
	if d.p.OnFailure == Halt {
		d.enterState(Halted, EventHalted, why)
		return
	}
	d.turnBack(why)
}

// complete ends a rollout that has passed all its stages.
func (d *decision) complete(why string) {
	d.p.Stage = len(d.p.Stages)
	d.enterState(Completed, EventCompleted, why)
}
