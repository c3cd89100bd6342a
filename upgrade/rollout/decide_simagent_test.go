package rollout_test

import (
	"fmt"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

type simAgent struct {
	Member
	w *world
	// alive: its process runs; cut: it does not reach etcd; registered: its key is
	// there.
	alive, cut, registered bool
	believes               bool // that it is registered, since before its lease was revoked
	renewed                time.Time
	attempt                string // under way; "" = not
	generation             int
	badly, hangs           bool
	plan                   *Plan
	sure                   sighting
	pending                []Plan // told while it was cut
}

func (w *world) join() {
	env := "production"
	if w.cfg.rest == 0 && len(w.agents)%4 == 0 || w.cfg.rest > 0 && len(w.agents)%w.cfg.rest != 0 {
		env = "test"
	}
	a := &simAgent{w: w, alive: true, badly: w.rng.Float64() < w.cfg.bad, hangs: w.rng.Float64() < w.cfg.hang}
	a.Member = Member{
		ID: fmt.Sprintf("a%04d", len(w.agents)), Labels: map[string]string{"env": env, "pair": fmt.Sprint(len(w.agents) / 2)},
		Version: "1.0.0", Manifest: goodDigest, Ready: true,
	}
	w.agents = append(w.agents, a)
	a.register()
}

// register puts a's keys; what it has reported it still knows.
func (a *simAgent) register() {
	a.w.revision++
	a.registered, a.Joined, a.renewed = true, a.w.revision, a.w.now
	a.publish()
	if a.w.plan.ID != "" {
		a.hear(a.w.plan)
	}
}

// publish shows a's state to whoever watches, a little later and in order.
func (a *simAgent) publish() {
	if !a.registered || a.cut {
		return
	}
	w := a.w
	w.revision++
	m, revision := a.Member, w.revision
	if m.Report != nil {
		r := *m.Report
		m.Report = &r
	}
	w.inOrder(func() { w.shown[m.ID] = &m; w.see(revision) })
}

// inOrder tells the controller something after a delay that all share.
func (w *world) inOrder(do func()) { w.after(w.cfg.lag, func() { do(); w.poke() }) }

func (w *world) see(revision int64) { w.seen = max(w.seen, revision) }

func (a *simAgent) leave() {
	if !a.registered {
		return
	}
	a.registered = false
	w := a.w
	w.revision++
	revision := w.revision
	w.inOrder(func() { delete(w.shown, a.ID); w.see(revision) })
}

func (a *simAgent) die() {
	a.alive, a.attempt = false, ""
	a.generation++
	a.w.after(simTTL, func() {
		if !a.alive {
			a.leave()
		}
	})
}

// partition cuts a off: its lease ends when it lasts.
func (a *simAgent) partition(d time.Duration) {
	w := a.w
	if a.cut || !a.alive {
		return
	}
	a.cut, a.renewed = true, w.now
	w.after(simTTL, func() {
		if a.cut && w.now.Sub(a.renewed) >= simTTL {
			a.leave()
		}
	})
	w.after(d, func() {
		a.cut = false
		if !a.alive {
			return
		}
		if a.registered {
			a.publish()
		} else {
			a.register()
		}
		pending := a.pending
		a.pending = nil
		for _, p := range pending {
			a.follow(p)
		}
	})
}

// revoke ends a's lease before its time: it hears of that when it renews it.
func (a *simAgent) revoke() {
	if !a.alive || a.cut || !a.registered {
		return
	}
	a.leave()
	a.believes = true
	a.w.after(a.w.spread(simTTL/2), func() {
		if a.believes = false; a.alive && !a.registered {
			a.register()
		}
	})
}

// fresh reports whether a's lease stands for certain, as far as a can tell.
func (a *simAgent) fresh() bool {
	return a.believes || a.registered && (!a.cut || a.w.now.Sub(a.renewed) < simTTL)
}

// tell has all agents hear of the plan, each with a delay of its own and in order.
func (w *world) tell() {
	p := w.plan
	for _, a := range w.agents {
		w.after(0, func() { a.hear(p) })
	}
}

func (a *simAgent) hear(p Plan) {
	a.w.after(a.w.spread(a.w.cfg.lag), func() {
		if a.cut {
			a.pending = append(a.pending, p)
			return
		}
		a.follow(p)
	})
}

// follow is what an agent does with a plan, as the Follower does.
func (a *simAgent) follow(p Plan) {
	if a.plan != nil && (p.ID == a.plan.ID && p.Seq < a.plan.Seq) || !a.alive {
		return
	}
	a.plan = &p
	if !a.fresh() || a.attempt != "" {
		return
	}
	if r := a.Report; r != nil && r.Request == p.Request() && r.State.Ended() {
		return
	}
	if !a.w.admission(p).Admits(&a.Member) || p.State == Halted || p.State == Aborted {
		return
	}
	if p.Instruction.Action == ActRevert && a.Version != "2.0.0" {
		if a.Report != nil { // it took part
			a.report(p.Request(), ReportDone, "")
		}
		return
	}
	if p.Cursor.Unsure && a.sure != (sighting{p.ID, p.Seq, a.Joined}) {
		a.makeSure(p)
		return
	}
	a.attempt = p.Request()
	a.generation++
	generation := a.generation
	a.report(p.Request(), ReportStarted, "")
	if a.hangs && p.Instruction.Action != ActRevert {
		return
	}
	a.w.after(time.Second+a.w.spread(4*time.Second), func() {
		if a.generation == generation {
			a.end(p)
		}
	})
}

// sighting is what a has read of its own registration, as of which plan.
type sighting struct {
	rollout string
	seq     int64
	joined  int64
}

// makeSure has a read its own registration: it goes on if that is there.
func (a *simAgent) makeSure(p Plan) {
	a.w.after(a.w.spread(a.w.cfg.lag), func() {
		switch {
		case a.cut:
			a.pending = append([]Plan{p}, a.pending...)
		case a.registered:
			a.sure = sighting{p.ID, p.Seq, a.Joined}
			a.follow(p)
		}
	})
}

// admission compiles each plan once.
func (w *world) admission(p Plan) *Admission {
	if w.compiled == nil || w.compiledSeq != p.Seq || w.compiledOf != p.ID {
		adm, err := NewAdmission(p)
		if err != nil {
			w.fatalf("%v", err)
		}
		w.compiled, w.compiledSeq, w.compiledOf = adm, p.Seq, p.ID
	}
	return w.compiled
}

func (a *simAgent) end(p Plan) {
	switch {
	case p.Instruction.Action == ActRevert:
		a.Version, a.Manifest = "1.0.0", goodDigest
		a.report(p.Request(), ReportDone, "")
	case a.badly && a.w.cfg.kills:
		a.die()
		return
	case a.badly:
		a.report(p.Request(), ReportFailed, "unhealthy\non probation")
	default:
		a.Version, a.Manifest = "2.0.0", badDigest
		a.report(p.Request(), ReportDone, "")
	}
	a.attempt = ""
	if a.plan != nil {
		a.follow(*a.plan)
	}
}

func (a *simAgent) report(request string, s ReportState, why string) {
	a.Report = &Report{Request: request, State: s, Reason: why, At: a.w.now}
	a.publish()
}
