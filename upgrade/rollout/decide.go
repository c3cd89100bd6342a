package rollout

import "time"

// Input is all that a decision depends on.
type Input struct {
	Plan  Plan
	Books Books
	// Snapshot is not older than Plan and Books.
	Snapshot Snapshot
	// Freeze is nil while the fleet is not frozen.
	Freeze *Freeze
	// CheckResults are the answers to what an earlier Output asked, by
	// Check.Name.
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
	return Output{Plan: in.Plan, Books: in.Books, Figures: in.Books.Figures}, nil
}
