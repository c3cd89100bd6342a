package rollout

import (
	"fmt"
	"strings"
)

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
// to go back from: those who cannot go back, or do not say that they have, are an
// operator's. Where they do after all, a revert that was halted ends by itself.
func (d *decision) reverting() {
	if d.admit("revert: %s") || d.frozen {
		return
	}
	left := owing(d.everybody())
	f := &d.figures
	mute := len(d.mute())
	open := f.Waiting + f.UnderWay + f.Silent + len(d.books.Former) - mute
	stay := f.Failed + f.Held + mute
	switch {
	case open > 0 && left == 0:
		d.waits(fmt.Sprintf("revert: %s under way%s", agents(open), besides(mute)))
	case left > 0 && (open > 0 || !d.stuck()):
		d.waits(fmt.Sprintf("revert: %s to come, %d unavailable%s", agents(left), f.Unavailable, besides(mute)))
	case left+stay > 0:
		if left == 0 {
			d.everyMark()
		}
		d.cannot(left, stay)
	default:
		d.everyMark()
		why := "nobody had anything to go back from"
		if f.Succeeded > 0 {
			why = agents(f.Succeeded) + " did go back, nobody is left to"
		}
		d.enterState(Reverted, EventReverted, why)
	}
}

// cannot halts a revert after which stay did not go back, and left were not let
// in: those that are silent leave no room, or both of a pair would be down.
func (d *decision) cannot(left, stay int) {
	why := fmt.Sprintf("%s did not go back%s", agents(stay), d.examples(0))
	if left > 0 {
		mute := d.mute()
		why += fmt.Sprintf(", and %s to come, for whom those that are silent leave no room (%s)", agents(left), strings.Join(mute[:min(3, len(mute))], ", "))
		if d.p.PastSilent {
			why += ": the next is of a pair whose other half is silent"
		}
	}
	if d.p.State == Halted {
		d.waits("revert: " + plain(why, maxText))
		return
	}
	d.enterState(Halted, EventHalted, why)
}

// everyMark lets all go back: nobody is left, but those who come later are late.
func (d *decision) everyMark() { d.p.Cursor.Marks = []Mark{{Open: true, Rank: LastRank}} }

// besides tells of those who do not report an end.
func besides(mute int) string {
	if mute == 0 {
		return ""
	}
	return fmt.Sprintf(", %d silent past their deadline", mute)
}
