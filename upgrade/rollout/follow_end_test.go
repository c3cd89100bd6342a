package rollout

import "testing"

// TestWhoHadNotBegunSaysSoWhenAnotherInstructionComes: a place would be kept for it
// until its deadline, and the revert end as late.
func TestWhoHadNotBegunSaysSoWhenAnotherInstructionComes(t *testing.T) {
	for name, c := range map[string]struct{ not, may func(r *followRig) }{
		"brake": {
			func(r *followRig) { r.freeze = &Freeze{Schema: Schema, By: "ops", At: r.now} },
			func(r *followRig) { r.freeze = nil },
		},
		"its turn": {
			func(r *followRig) { r.there, r.plan.Cursor.Steps = false, []Step{{At: r.now, Agents: 1 << 20}} },
			func(*followRig) {},
		},
		"an order goes first": {
			func(r *followRig) { r.stands["r1.1"] = Standing{State: ReportWaiting} },
			func(r *followRig) { clear(r.stands) },
		},
	} {
		for what, next := range map[string]func(p *Plan){
			"revert":   func(p *Plan) { p.Instruction = Instruction{Number: 2, Action: ActRevert} },
			"replaced": func(p *Plan) { p.ID, p.Cursor = "r2", Cursor{} },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				r := newFollowRig(t)
				r.admits()
				c.not(r)
				r.hears()
				if len(r.begun) > 0 {
					t.Fatal("it has begun")
				}
				c.may(r)
				next(&r.plan)
				r.hears()
				r.reports("what it was let in for", ReportRefused)
				if got := r.Report(); got == nil || got.Request != "r1.1" {
					t.Errorf("reports %+v", got)
				}
			})
		}
	}
}

// TestWhoHasBegunDoesNotSayThatItHasNot: it would be down uncounted.
func TestWhoHasBegunDoesNotSayThatItHasNot(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.stands["r1.1"] = Standing{State: ReportStarted}
	r.look(r.now)
	r.plan.ID, r.plan.Cursor = "r2", Cursor{}
	r.hears()
	r.reports("the host is at it", ReportStarted, "r1.1")

	r = newFollowRig(t)
	r.plan.Cursor.Marks = []Mark{{}} // and never was let in
	r.hears()
	r.plan.ID = "r2"
	r.hears()
	r.reports("not let in", "")
}

// TestWhatItsOperatorHasSeenToIsReported: an agent that was held, or could not, and
// was brought along by hand would count as left behind for ever.
func TestWhatItsOperatorHasSeenToIsReported(t *testing.T) {
	for name, held := range map[string]bool{"held": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			if held {
				r.held = "audit"
				r.hears()
			} else {
				r.hears()
				r.stands["r1.1"] = Standing{State: ReportFailed, Reason: "probation"}
				r.runs = "1.1.0" // for a moment still
				r.look(r.now)
				r.look(r.now)
				r.reports("it has failed", ReportFailed, "r1.1")
				r.runs = "1.0.0"
				r.look(r.now)
				clear(r.stands)
			}
			r.held = ""
			r.look(r.now)
			begun := []string{"r1.1"}[:len(r.begun)]
			r.reports("let go", map[bool]ReportState{true: ReportHeld, false: ReportFailed}[held], begun...)
			r.runs = "1.1.0"
			r.look(r.now)
			r.reports("brought along", ReportDone, begun...)
		})
	}
}

// TestWhatWasDoneBeforeAKillIsNotDeclined: a host without a journal does not know any
// more that it was at it, and nobody would bring it back from what it runs.
func TestWhatWasDoneBeforeAKillIsNotDeclined(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.reports("begun", ReportStarted, "r1.1")
	r.restart(r.cfg.State)
	r.runs = "1.1.0"
	r.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
	r.plan.State, r.plan.Cursor.Marks = Reverting, nil
	r.hears()
	if got := r.Report(); got == nil || got.Request != "r1.1" || got.State != ReportDone {
		t.Errorf("it has what r1.1 has brought, and says %+v", got)
	}
}
