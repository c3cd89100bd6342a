package rollout

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// followAgain is how soon is looked again at what nobody tells of, such as that
	// a lease was renewed.
	followAgain = time.Second
	// spreadPerAgent is how far apart those who are admitted by one step ask the
	// repository, and spreadPart the most of their time that this may take.
	spreadPerAgent = 10 * time.Millisecond
	spreadPart     = 0.1
	// tellPerAgent and tellMost are of ReportWithin.
	tellPerAgent = time.Millisecond
	tellMost     = 10 * time.Second
)

// followee is what a Follower knows; it belongs to Run's goroutine.
type followee struct {
	heard     planView   // as it was seen last
	hears     bool       // it was seen
	reader    planReader // of plans
	plan      *Plan      // nil = none that can be followed
	admission *Admission // of plan
	planErr   error
	brake     *Freeze // nil = not frozen
	brakeErr  error
	deaf      error // why the plan may be old
	keepErr   error

	kept followed
	// handed is the request that this process has given to the host and that
	// has not ended, begun since when; "" = none.
	handed string
	begun  time.Time
	// offered is what the plan let this agent do and it has not begun.
	offered Order
	// due is when an order that has to be fetched is begun, and dueFor its request.
	due     time.Time
	dueFor  string
	settled string // the rollout that Host.Settle was told of
	// seen is what was read last of this agent's registration, looking while it is
	// read, which was asked for at looked. It is read again at lookNext, or as of
	// another revision of the plan.
	seen      sighting
	looked    time.Time
	looking   bool
	lookNext  time.Time
	lookedFor int64
}

// recall takes up what a former process has reported.
func (f *Follower) recall() {
	var err error
	if f.kept, err = readFollowed(f.cfg.State); err != nil {
		// What was begun the host's journal tells, and it is asked.
		f.cfg.Logger.Warn("report of the last rollout cannot be read", "error", err)
	}
	if f.kept.Report.Request != "" {
		r := f.kept.Report
		f.publish(&r, 0)
	}
}

// hear takes over what etcd holds.
func (f *Follower) hear(v planView) {
	if v.mod != f.heard.mod || !bytes.Equal(v.plan, f.heard.plan) || f.plan == nil {
		f.hearPlan(v.plan, v.mod)
	}
	f.brake, f.brakeErr = nil, nil
	if v.freeze != nil {
		f.brake = new(Freeze)
		// Whoever pulled one that cannot be read meant something by it.
		f.brakeErr = decode(f.keys.freeze(), v.freeze, maxSmall, f.brake)
	}
	f.heard, f.hears = v, true
	f.tellTrouble()
}

func (f *Follower) hearPlan(data []byte, mod int64) {
	before := f.admission
	f.plan, f.admission, f.planErr = nil, nil, nil
	if data == nil {
		return
	}
	p, err := f.reader.read(data)
	if err == nil && f.keys.fleet != p.Fleet {
		err = fmt.Errorf("it is of fleet %.130q", p.Fleet)
	}
	if err == nil {
		err = f.kept.Newest.refuses(p, mod)
	}
	var a *Admission
	if err == nil {
		a, err = before.moved(p)
	}
	if err != nil {
		f.planErr = fmt.Errorf("%s: %w", f.keys.plan(), err)
		f.cfg.Logger.Error("plan cannot be followed", "error", f.planErr)
		return
	}
	f.plan, f.admission = p, a
}

// look does what there is to do now, and returns when to look again; 0 = when
// something has changed.
func (f *Follower) look(now time.Time) time.Duration {
	f.takeBack()
	f.conclude(now)
	p := f.plan
	if p == nil {
		return f.patience(now)
	}
	f.settle(p)
	f.decline(now, p)
	if r := f.kept.Report; r.Request == p.Request() && r.State.Ended() {
		f.amend(now, r.State)
		return 0
	}
	self := f.cfg.Self()
	if !f.admission.Admits(&self) {
		return f.patience(now)
	}
	if again := f.obey(now, p, self.Joined); again > 0 {
		return again
	}
	return f.patience(now)
}

// patience is when to ask the host about an order that has not ended, should it
// not say a word.
func (f *Follower) patience(now time.Time) time.Duration {
	if f.handed == "" || f.kept.Order.GiveUp <= 0 {
		return 0
	}
	if left := f.begun.Add(f.kept.Order.GiveUp).Sub(now); left > 0 {
		return left
	}
	return followAgain
}

// conclude asks the host what has become of what is reported, also where no
// plan asks for it any more.
func (f *Follower) conclude(now time.Time) {
	r, o := f.kept.Report, f.kept.Order
	if r.Request == "" || r.State.Ended() {
		return
	}
	switch s := f.standing(o); {
	case s.State != "":
		f.say(now, o, s)
	case s.Runs && o.Action != ActRevert:
		// A host that keeps no journal does not know any more that it was at it.
		f.say(now, o, Standing{State: done(o.Action)})
	case f.passed(r.Request):
		// Whoever moves the marks need not wait for it any more.
		f.say(now, o, Standing{State: ReportRefused, Reason: "it had not begun when the plan asked for something else"})
	case r.State != ReportStarted:
	case f.handed == r.Request && o.GiveUp > 0 && now.Sub(f.begun) >= o.GiveUp:
		f.say(now, o, Standing{State: ReportFailed, Reason: fmt.Sprintf("the host did not get to it within %v", o.GiveUp)})
	default:
		f.say(now, o, Standing{State: ReportWaiting, Reason: "it was interrupted before it had begun"})
	}
}

// passed reports whether the plan asks for something else than request now.
func (f *Follower) passed(request string) bool { return f.plan != nil && f.plan.Request() != request }

// takeBack has the host not start what it was given and has not started, once it
// is not to. Its time begins anew should it be given that again.
func (f *Follower) takeBack() {
	begun, p := f.kept.Begun, f.plan
	if begun == "" || !f.hears || p != nil && p.Request() == begun && f.stopped(p) == "" {
		return
	}
	f.cfg.Host.Retract(begun)
	if f.handed == begun {
		f.handed = ""
	}
}

// standing is the host's, with a failure that is its operator's will as such.
func (f *Follower) standing(o Order) Standing {
	s := f.cfg.Host.Standing(o)
	if s.State == ReportFailed && s.Held != "" && s.Class == "" {
		s.State, s.Reason = ReportHeld, s.Held
	}
	return s
}

// settle tells the host once that what a rollout has laid over is not the
// rollout's any more.
func (f *Follower) settle(p *Plan) {
	id := f.kept.Order.Rollout
	if id == "" || id == f.settled || id == p.ID && !p.State.Over() {
		return
	}
	f.cfg.Host.Settle(id)
	f.settled = id
}

// decline says of what this agent was let in for, and has not begun when another
// instruction takes its place, that it never will: whoever counts the agents
// would keep a place for it, and not know for how long.
func (f *Follower) decline(now time.Time, p *Plan) {
	o, r := f.offered, f.kept.Report
	if o.Request == "" || o.Request == p.Request() {
		return
	}
	f.offered = Order{}
	if f.kept.Begun == o.Request || r.Request == o.Request && r.State.Ended() {
		return
	}
	f.say(now, o, Standing{State: ReportRefused, Reason: "another instruction took its place before it had begun"})
}

// amend says that what did not come about as the plan asked for it is so after
// all: an order to this one host, or its operator, has seen to it.
func (f *Follower) amend(now time.Time, ended ReportState) {
	if ended != ReportFailed && ended != ReportRefused && ended != ReportHeld {
		return
	}
	o := f.kept.Order
	// As long as the host tells of the attempt that failed, it is that which ends.
	if s := f.cfg.Host.Standing(o); s.Runs && (s.State == "" || s.State == done(o.Action)) {
		f.say(now, o, Standing{State: done(o.Action)})
	}
}

// obey does what p, which admits this agent, that joined at this revision, and has
// not ended here, asks for.
func (f *Follower) obey(now time.Time, p *Plan, joined int64) (again time.Duration) {
	o := p.order(f.keys)
	f.offered = o
	s := f.standing(o)
	// Of a former instruction the host may still be at work on.
	unfinished := f.kept.Begun != "" && f.kept.Begun != o.Request
	revert := o.Action == ActRevert
	switch {
	case s.State != "":
		f.say(now, o, s)
		return 0
	case s.Runs && revert && !unfinished && f.kept.Changed != o.Rollout:
		f.offered = Order{}
		return 0 // it is none of this agent's business: ten thousand need not say so
	case s.Runs && (!revert || !unfinished):
		f.say(now, o, Standing{State: done(o.Action)})
		return 0
	case s.Held != "":
		f.say(now, o, Standing{State: ReportHeld, Reason: s.Held})
		return 0
	}
	if why := f.mayNot(p); why != "" {
		f.say(now, o, Standing{State: ReportWaiting, Reason: why})
		return followAgain
	}
	if left := f.turn(now, p, s); left > 0 {
		return left
	}
	if again := f.makeSure(now, p, o, joined); again > 0 {
		return again
	}
	return f.begin(now, p, o, joined)
}

// done is how an order of this action ends where all is as it asks for.
func done(a Action) ReportState {
	if a == ActStage {
		return ReportStaged
	}
	return ReportDone
}

// mayNot says why nothing may be started now; "" = it may.
func (f *Follower) mayNot(p *Plan) string {
	_, stands := f.cfg.Renewed()
	switch {
	case !stands:
		return "this agent's registration may have ended: it starts nothing before etcd has answered"
	case f.deaf != nil:
		return "the plan may be old: " + f.deaf.Error()
	}
	return f.stopped(p)
}

// stopped says why nobody who follows p may start anything now; "" = they may.
func (f *Follower) stopped(p *Plan) string {
	revert := p.Instruction.Action == ActRevert
	switch {
	case f.brakeErr != nil:
		return "whether the fleet is frozen cannot be told: " + f.brakeErr.Error()
	case f.brake != nil && (!revert || f.brake.Reverts):
		return "the fleet is frozen by " + untold(f.brake.By) + ": " + untold(f.brake.Reason)
	case !revert && (p.State == Halted || p.State == Aborted):
		return "the rollout is " + string(p.State)
	}
	return ""
}

func untold(s string) string {
	if s == "" {
		return "(not told)"
	}
	return s
}

// turn is how long to wait still, so that those who were let in together do not
// ask the repository together.
func (f *Follower) turn(now time.Time, p *Plan, s Standing) time.Duration {
	if s.There || len(p.Cursor.Steps) == 0 {
		return 0
	}
	if f.dueFor != p.Request() {
		spread := min(time.Duration(p.Cursor.together()-1)*spreadPerAgent, time.Duration(spreadPart*float64(p.Deadline.Duration())))
		f.due, f.dueFor = now, p.Request()
		if spread > 0 {
			f.due = now.Add(rand.N(spread)) //nolint:gosec // no secret
		}
	}
	return f.due.Sub(now)
}

// begin has the host begin o. What is kept says so before: a process that dies
// in between finds out at its next start whether the host has heard.
func (f *Follower) begin(now time.Time, p *Plan, o Order, joined int64) time.Duration {
	before := f.kept
	f.kept.Report, f.kept.Order = Report{Request: o.Request, State: ReportStarted, At: reported(now), Before: f.alarms(o.Request)}, o
	f.kept.Begun = o.Request
	if o.Action == ActSwitch {
		f.kept.Changed = o.Rollout
	}
	f.keep()
	// The disk may have taken its time.
	why := f.mayNot(p)
	age, ok := f.vouched(now, p, joined)
	if why == "" && !ok {
		why = "this agent may have left the registry meanwhile"
	}
	if why != "" {
		f.kept = before
		f.say(now, o, Standing{State: ReportWaiting, Reason: why})
		return followAgain
	}
	if f.handed != o.Request { // else it was lost in the host, and its time goes on
		// Whoever counts may have seen it leave right after it was known to be there.
		f.begun = now.Add(-age)
	}
	f.handed, f.offered = o.Request, Order{}
	if o.GiveUp > 0 {
		o.GiveUp = max(o.GiveUp-time.Since(f.begun), time.Millisecond)
	}
	f.cfg.Logger.Info("rollout followed", "action", o.Action, "attempt", o.Request)
	f.cfg.Host.Begin(o)
	r := f.kept.Report
	f.publish(&r, p.toldWithin())
	return 0
}
