package rollout

import (
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Schema is the version of the JSON form of Plan, Books, Freeze and Record.
const Schema = 1

// Plan is the value of plan/<fleet>: what the fleet is to run, and who may
// start.
//
//nolint:recvcheck // methods that return a changed plan take a copy, all others a pointer
type Plan struct {
	Schema int    `json:"schema"`
	Fleet  string `json:"fleet"`
	// ID is the rollout's, unique for ever. It is part of each agent's rank.
	ID string `json:"id"`
	// By is who asked for it, Reason why; both are for people.
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`

	Strategy Strategy `json:"strategy"`
	// Target is what is to run, Previous what a revert goes back to. A zero
	// Previous sends each agent to what it ran before.
	Target   Target `json:"target"`
	Previous Target `json:"previous,omitzero"`
	// Over is, of a configuration document, the digest of the one that its scope
	// had when the rollout began; an Operator fills it in. Where others have
	// published another one meanwhile, the rollout does not take its place.
	Over string `json:"over,omitempty"`
	// Selector says which agents the rollout is about; "" = all of the fleet.
	// Only .id, .group, .host and .platform and labels can be selected: what a
	// rollout changes cannot say who takes part in it.
	Selector string  `json:"selector,omitempty"`
	Stages   []Stage `json:"stages"`
	// OnFailure is what a failed judgement leads to.
	OnFailure OnFailure `json:"on_failure"`
	// PastSilent: agents that are silent for a whole deadline and take all places
	// have one more go back beside them at a time in a revert, so that one more than
	// MaxUnavailable is under way. Without it such a revert is halted.
	PastSilent bool `json:"past_silent,omitempty"`
	// Deadline is how long an agent that was admitted may take until it reports an
	// end, in seconds; one that takes longer counts as failed. An agent gives up
	// by itself before it.
	Deadline Seconds `json:"deadline_seconds"`
	// RetainFor is how long agents keep the previous release after the rollout,
	// in seconds.
	RetainFor Seconds `json:"retain_seconds,omitempty"`
	// Environments are those whose pin/<environment> is moved to Target when the
	// rollout completes.
	Environments []string `json:"environments,omitempty"`
	// Binaries are what those pins say of Target's executables, as in
	// Pin.Binaries: the manifest that whoever starts the rollout has verified.
	Binaries map[string]string `json:"binaries,omitempty"`

	// What follows moves.

	State State `json:"state"`
	// Why says why it is in State, or what it waits for, in one sentence.
	Why string `json:"why,omitempty"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// Instruction is what admitted agents are to do now.
	Instruction Instruction `json:"instruction"`
	// Stage is the index of the stage under way; len(Stages) once all have
	// passed.
	Stage int `json:"stage"`
	// StageSince is when that stage began, SoakSince when all of its agents had
	// ended; zero before.
	StageSince time.Time `json:"stage_since,omitzero"`
	SoakSince  time.Time `json:"soak_since,omitzero"`
	// Promoted is the index of the last stage whose gate an operator has opened,
	// plus one. The stages before that one are accepted as they are: neither soak
	// nor judgement holds them up.
	Promoted int    `json:"promoted,omitempty"`
	Cursor   Cursor `json:"cursor"`
	// Seq counts the writes of this plan from 1; History is the digest of the
	// record that belongs to this write.
	Seq     int64  `json:"seq"`
	History string `json:"history,omitempty"`
}

// Seconds is a duration that is written as seconds.
type Seconds float64

// Duration is s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Target is what a rollout brings: a release or a configuration document.
//
//nolint:recvcheck // as Plan
type Target struct {
	// Release is set where it is a release; Program is the name that it is
	// signed for, Asked what the pin was resolved from.
	Release release.Pin `json:"release,omitzero"`
	Program string      `json:"program,omitempty"`
	Asked   string      `json:"asked,omitempty"`
	// Config is set where it is a configuration document.
	Config *ConfigTarget `json:"config,omitempty"`
}

// ConfigTarget is a document that takes the place of that of a scope.
type ConfigTarget struct {
	// Scope is "global" or "group/<group>".
	Scope string `json:"scope"`
	// Digest is "sha256:<hex>" of the document's bytes, which lie under
	// rollout-document/<fleet>/<hex>. An empty one = the scope's own document in
	// config/<scope>, or none; what an Operator starts names a document always.
	Digest string `json:"digest,omitempty"`
}

// Strategy is the way in which a rollout goes.
type Strategy string

// The strategies.
const (
	// Canary judges a small part before the next, larger one.
	Canary Strategy = "canary"
	// Rolling goes through all in batches.
	Rolling Strategy = "rolling"
	// BlueGreen stages everywhere, and then switches all with one write, and back
	// with one.
	BlueGreen Strategy = "blue-green"
)

// OnFailure is what a failed judgement leads to.
type OnFailure string

// What a failed judgement leads to.
const (
	// Revert brings what has changed back; the default.
	Revert OnFailure = "revert"
	// Halt stops, and waits for an operator.
	Halt OnFailure = "halt"
)

// State is where a rollout stands.
type State string

// The states of a rollout.
const (
	Running   State = "running"
	Paused    State = "paused" // by an operator, or an inconclusive judgement
	Halted    State = "halted" // a judgement failed; what has changed stays so
	Reverting State = "reverting"
	Reverted  State = "reverted"
	Aborted   State = "aborted" // an operator ended it; what has changed stays so
	Completed State = "completed"
)

// Over reports whether nothing more is to come, but for agents that were away.
func (s State) Over() bool { return s == Reverted || s == Aborted || s == Completed }

// Stage is a part of the fleet, after those before it.
//
//nolint:recvcheck // as Plan
type Stage struct {
	// Name is for people; default "stage <n>".
	Name string `json:"name"`
	// Selector says of whom, beside Plan.Selector.
	Selector string `json:"selector,omitempty"`
	// BasisPoints is how many of them, in hundredths of a percent: 10000 = all,
	// and never fewer than one agent where there is any.
	BasisPoints int `json:"basis_points"`
	// Batch is the most agents that one step admits; 0 = as many as may be.
	Batch Amount `json:"batch,omitzero"`
	// MaxUnavailable is the most agents that are under way at once, of those that
	// the stage selects; zero = no limit.
	MaxUnavailable Amount `json:"max_unavailable,omitzero"`
	// PairBy is a label whose value the hosts of a pair share: never are two of one
	// pair under way at once, and one whose partner is ready is not counted
	// against MaxUnavailable, but against MaxSurge.
	PairBy   string `json:"pair_by,omitempty"`
	MaxSurge Amount `json:"max_surge,omitzero"`
	// Soak is how long all must have run well before the stage is judged, in
	// seconds.
	Soak Seconds `json:"soak_seconds,omitempty"`
	// Manual has the stage wait for an operator's promote before it begins.
	Manual bool `json:"manual,omitempty"`
	// Windows are the times in which agents may be admitted; none = always.
	Windows []Window `json:"windows,omitempty"`
	Judge   Judge    `json:"judge,omitzero"`
}

// Amount is a number of agents, or a part of those that a stage selects: one of
// both. A part is rounded up, so that it is never none.
type Amount struct {
	Agents      int `json:"agents,omitempty"`
	BasisPoints int `json:"basis_points,omitempty"`
}

// Window is a time of the week in a zone.
type Window struct {
	// Days are "mon" to "sun"; none = each. A window that goes past midnight
	// belongs to the day on which it begins.
	Days []string `json:"days,omitempty"`
	// From and To are "15:04"; a To that is not after From is on the next day.
	From string `json:"from"`
	To   string `json:"to"`
	// Zone is a name of the IANA database; "" = UTC.
	Zone string `json:"zone,omitempty"`
}

// Judge says when a stage has passed.
type Judge struct {
	// SuccessAbove is what the percentage of agents that succeeded must be
	// greater than; default 99.5.
	SuccessAbove *float64 `json:"success_above_percent,omitempty"`
	// MinSample is how many agents must have succeeded or failed for that to
	// mean anything; with fewer the judgement is inconclusive. It counts as met
	// where the whole stage has no more. Default 1.
	MinSample int `json:"min_sample,omitempty"`
	// AlertSeverity is the least severity of an alert that makes an agent count
	// as failed if it began to fire after the agent's change: "warning",
	// "critical" or "none"; default "critical".
	AlertSeverity string `json:"alert_severity,omitempty"`
	// Checks are asked after the soak, all of them.
	Checks []Check `json:"checks,omitempty"`
}

// Check is a question to something outside, see Checker.
type Check struct {
	Name string `json:"name"`
	// Kind is "prometheus", "http", or the name of a Checker of the controller.
	Kind string `json:"kind"`
	// URL is of the Prometheus server or what is asked by HTTP.
	URL string `json:"url,omitempty"`
	// Query is PromQL; it passes if the result is not empty and no value of it is
	// 0 or NaN, as of a comparison with bool. No data is inconclusive.
	Query string `json:"query,omitempty"`
	// Timeout bounds one answer, in seconds; default 10. Attempts is how often it
	// is asked before an error makes it inconclusive; default 3.
	Timeout  Seconds `json:"timeout_seconds,omitempty"`
	Attempts int     `json:"attempts,omitempty"`
}

// Verdict is what a judgement comes to.
type Verdict string

// The verdicts.
const (
	Pending      Verdict = "pending" // it cannot be told yet
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)
