package rollout

import "fmt"

// turnBack begins a revert, and lets the first go back in the same write.
func (d *decision) turnBack(why string) {
	why = plain(why, maxText)
	judged := d.figures // those of the instruction that is left
	if !d.turn(d.p.reverting(why, d.now)) {
		return
	}
	if !d.frozen {
		if m := d.next(d.in.Snapshot.Revision); len(m.admitted) > 0 {
			d.enter(&m)
		}
	}
	d.write(EventReverting, why)
	d.out.Draft.Figures = judged
}

// reverting takes a revert on, and ends it when nobody is left who has something
// to go back from: those who cannot go back are an operator's.
func (d *decision) reverting() {
	if d.admit("revert: %s") || d.frozen {
		return
	}
	left := owing(d.everybody())
	f := &d.figures
	open := f.Waiting + f.UnderWay + f.Silent + len(d.books.Former)
	switch {
	case left > 0:
		d.waits(fmt.Sprintf("revert: %s to come, %d unavailable%s", agents(left), f.Unavailable, d.mute()))
	case open > 0:
		d.waits(fmt.Sprintf("revert: %s under way%s", agents(open), d.mute()))
	case f.Failed+f.Held > 0:
		d.everyMark()
		d.enterState(Halted, EventHalted, fmt.Sprintf("%s did not go back%s", agents(f.Failed+f.Held), d.examples(0)))
	default:
		d.everyMark()
		why := "nobody had anything to go back from"
		if f.Succeeded > 0 {
			why = agents(f.Succeeded) + " did go back, nobody is left to"
		}
		d.enterState(Reverted, EventReverted, why)
	}
}

// everyMark lets all go back: nobody is left, but those who come later are late.
func (d *decision) everyMark() { d.p.Cursor.Marks = []Mark{{Open: true, Rank: LastRank}} }

// mute tells how many of the unavailable do not report an end.
func (d *decision) mute() string {
	if d.figures.Silent == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them silent past their deadline", d.figures.Silent)
}
