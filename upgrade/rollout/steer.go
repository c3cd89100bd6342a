package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what people say for the history, in bytes.
const (
	maxBy     = 256
	maxReason = 512
)

func (a Act) check() error {
	for _, text := range []struct {
		what, text string
		most       int
	}{{"By", a.By, maxBy}, {"Reason", a.Reason, maxReason}} {
		if len(text.text) > text.most || !utf8.ValidString(text.text) || strings.ContainsFunc(text.text, unicode.IsControl) {
			return fmt.Errorf("%s: want at most %d bytes of UTF-8 without control characters, found %.60q", text.what, text.most, text.text)
		}
	}
	return nil
}

// why is the sentence for Plan.Why.
func (a Act) why(done string) string {
	if a.By != "" {
		done += " by " + a.By
	}
	if a.Reason != "" {
		done += ": " + a.Reason
	}
	return done
}

// told is why in the record of a promotion.
func (o PromoteOptions) told() string {
	if !o.Failed {
		return o.Reason
	}
	return because("a stage that has failed is taken as it is", o.Reason)
}

// told is why in the record of a revert, with what was asked for beside it.
func (o RevertOptions) told() string {
	var asked []string
	if !o.To.IsZero() {
		asked = append(asked, "to "+o.To.String())
	}
	if o.PastSilent {
		asked = append(asked, "past the silent agents")
	}
	return because(strings.Join(asked, ", "), o.Reason)
}

func because(what, reason string) string {
	if what == "" || reason == "" {
		return what + reason
	}
	return what + ": " + reason
}

// enter is p in another state.
func (p Plan) enter(s State, why string, at time.Time) Plan {
	p.State, p.Why, p.Since = s, why, at.UTC()
	return p
}

// refused says in which states something can be done.
func (p *Plan) refused(what string, states ...State) error {
	var want []string
	for _, s := range states {
		want = append(want, string(s))
	}
	return fmt.Errorf("%s rollout %s: want one that is %s, it is %s: %w", what, p.ID, strings.Join(want, " or "), p.State, ErrState)
}

func (p *Plan) in(what string, states ...State) error {
	if slices.Contains(states, p.State) {
		return nil
	}
	return p.refused(what, states...)
}

// pause, resume, promote and abort are what operators do to a plan.
func (p Plan) pause(a Act, at time.Time) (Plan, error) {
	return p.enter(Paused, a.why("paused"), at), p.in("pause", Running)
}

func (p Plan) resume(a Act, at time.Time) (Plan, error) {
	to := Running
	if p.Instruction.Action == ActRevert {
		to = Reverting
	}
	return p.enter(to, a.why("resumed"), at), p.in("resume", Paused, Halted)
}

func (p Plan) promote(a Act, failed bool, at time.Time) (Plan, error) {
	states := []State{Running, Paused}
	if failed {
		states = append(states, Halted)
	}
	if p.Stage >= len(p.Stages) || p.Instruction.Action == ActRevert {
		return p, fmt.Errorf("promote rollout %s: no stage is to come, it is %s: %w", p.ID, p.State, ErrState)
	} else if err := p.in("promote", states...); err != nil {
		return p, err
	}
	to := p.Stage + 1 // opens its gate
	if p.Promoted > p.Stage || !p.Stages[p.Stage].Manual {
		to++ // accepts it as it is
	}
	if p.Promoted >= to {
		return p, fmt.Errorf("promote rollout %s: stage %d is promoted already: %w", p.ID, p.Stage+1, ErrState)
	}
	p.Promoted = to
	return p.enter(Running, a.why("promoted"), at), nil
}

func (p Plan) abort(a Act, at time.Time) (Plan, error) {
	return p.enter(Aborted, a.why("aborted"), at), p.in("abort", Running, Paused, Halted, Reverting)
}

// back has p bring agents back: to what the plan says, or to another release.
func (p Plan) back(a Act, opts RevertOptions, at time.Time) (Plan, error) {
	states := []State{Running, Paused, Halted, Completed, Aborted}
	to := opts.To
	if opts.PastSilent {
		p.PastSilent = true
		if to.IsZero() && p.Instruction.Action == ActRevert && !p.State.Over() {
			return p.enter(Reverting, a.why("goes on past the silent agents"), at), nil
		}
	}
	if !to.IsZero() {
		if p.Target.Config != nil {
			return p, fmt.Errorf("revert rollout %s: it is of a configuration document, which cannot go to release %s", p.ID, to.Version)
		}
		if err := to.Validate(); err != nil {
			return p, fmt.Errorf("revert rollout %s: %w", p.ID, err)
		}
		if to.Digest == p.Target.Release.Digest {
			return p, fmt.Errorf("revert rollout %s: want another release than its own, found %s", p.ID, to.Version)
		}
		p.Previous = Target{Release: to, Program: p.Target.Program, Asked: to.Version}
		states = append(states, Reverting, Reverted)
	}
	if err := p.in("revert", states...); err != nil {
		return p, err
	}
	return p.reverting(a.why("reverted"), at), nil
}

// reverting is p with the instruction to bring agents back, all in one stage.
func (p Plan) reverting(why string, at time.Time) Plan {
	p.Instruction = Instruction{Number: p.Instruction.Number + 1, Action: ActRevert}
	p.Cursor = Cursor{}
	p.StageSince, p.SoakSince = at.UTC(), time.Time{}
	return p.enter(Reverting, why, at)
}
