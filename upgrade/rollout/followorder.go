package rollout

import "time"

// Host is the agent's own side of a rollout. Its methods are never called
// concurrently, and must not block. Whenever an answer of Standing may have
// changed it calls Follower.Touch.
type Host interface {
	// Begin has the host do what o asks for; Standing tells what becomes of it.
	// An order that was begun before and has not ended is replaced. It is called
	// again with the same order if the host turns out not to know it, as after a
	// crash.
	Begin(o Order)
	// Retract has the host forget the order that this is the request of, where it
	// has not started what would change what runs: it waits in line, for a busy
	// program, or for a download. Standing does not know the order any more once
	// that is so. It is told again and again, and may be of an order that has
	// ended.
	Retract(request string)
	// Standing tells how the host stands to o.
	Standing(o Order) Standing
	// Settle is told that a rollout is over, or that another has taken its place:
	// what was laid over until then may give way. It may be told again.
	Settle(rollout string)
}

// Order is an instruction as it is given to one host.
type Order struct {
	// Rollout is Plan.ID, Request what names the order in the host's journal.
	Rollout string `json:"rollout"`
	Request string `json:"request"`
	// By is who asked for the rollout.
	By     string `json:"by,omitempty"`
	Action Action `json:"action"`
	// Target is what is to be there or to run. Of a revert it is zero where each
	// agent goes back to what it ran before.
	Target Target `json:"target,omitzero"`
	// From is what a revert leaves; else zero.
	From Target `json:"from,omitzero"`
	// Document is the key of Target's configuration document; "" = none.
	Document string `json:"document,omitempty"`
	// Probation is for how long at least the successor is on probation; 0 = as
	// the host is set.
	Probation time.Duration `json:"probation_ns,omitempty"`
	// GiveUp is how long the whole may take from Begin on: it must have ended by
	// itself before.
	GiveUp time.Duration `json:"give_up_ns,omitempty"`
	// Retain is for how long what was staged, or what ran before, is to be kept;
	// 0 = as the host is set.
	Retain time.Duration `json:"retain_ns,omitempty"`
}

// Standing is how a host stands to an Order.
type Standing struct {
	// State is how far it has got with the order: "" if it does not know it, or
	// was stopped before it had started anything, ReportWaiting if it has it and may not start now, ReportStarted, or how it
	// ended. Reason and Class are as in Report.
	State         ReportState
	Reason, Class string
	// Runs: what the order asks for is so already, whoever did it. For ActStage
	// it is that the target lies there or runs, for a revert without a target that
	// what it leaves does not run.
	Runs bool
	// There: all that the order needs is on the host.
	There bool
	// Held says who keeps the host out and why; "" = nobody.
	Held string
}

// givesUp is the part of its time after which a host gives up by itself:
// whoever counts it out has then no reason to think that it is still at it.
const givesUp = 0.9

// order is what p asks of a host now.
func (p *Plan) order(k keys) Order {
	o := Order{
		Rollout: p.ID, Request: p.Request(), By: p.By, Action: p.Instruction.Action, Target: p.Target,
		Probation: p.Instruction.Probation.Duration(),
		GiveUp:    time.Duration(givesUp * float64(p.attempt())),
		Retain:    p.RetainFor.Duration(),
	}
	if o.Action == ActRevert {
		o.Target, o.From = p.Previous, p.Target
		if p.Target.Config != nil && o.Target.Config == nil {
			// What a scope has of its own is there, whatever the plan says.
			o.Target.Config = &ConfigTarget{Scope: p.Target.Config.Scope}
		}
	}
	if c := o.Target.Config; c != nil && c.Digest != "" {
		o.Document = k.document(c.hex())
	}
	return o
}

// hex is the digest without what it is of.
func (c *ConfigTarget) hex() string {
	const kind = len("sha256:")
	return c.Digest[min(kind, len(c.Digest)):]
}
