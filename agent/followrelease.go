package agent

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// releaseHost does what a plan asks for about releases. An order of the registry
// goes before: the plan waits while there is one, and what it has in line is put
// there again afterwards.
type releaseHost struct {
	*Agent

	mu sync.Mutex
	// handed is the request that the upgrader was given and has not taken up as
	// far as its status tells, and until when it may; "" = none.
	handed string
	until  time.Time
	// refused is one that no host could perform, and why.
	refused, reason string
}

// turnGrace is how much longer than it may take an order that waits in line is
// taken for being there: whoever put another in its place need not say so.
const turnGrace = 5 * time.Second

func (h *releaseHost) begin(o rollout.Order) {
	r := upgrade.Request{
		ID: o.Request, By: o.By, Pin: o.Target.Release, Program: o.Target.Program, Asked: o.Target.Asked,
		GiveUp: o.GiveUp, Retain: o.Retain, Remote: true, // whoever can write to etcd has asked
	}
	switch o.Action {
	case rollout.ActStage:
		r.Action = upgrade.ActionStage
	case rollout.ActSwitch:
		r.Action, r.Probation = upgrade.ActionUpgrade, o.Probation
	case rollout.ActRevert:
		r.Action, r.Leave, r.Program = upgrade.ActionRevert, o.From.Release, o.From.Program
	}
	err := checkRequest(r)
	if err == nil && r.Action == "" {
		err = fmt.Errorf("asks for %.40q: want %s, %s or %s", o.Action, rollout.ActStage, rollout.ActSwitch, rollout.ActRevert)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.refused, h.reason = o.Request, "what the plan asks for "+err.Error()
		return
	}
	h.handed, h.until = o.Request, time.Now().Add(o.GiveUp+turnGrace)
	h.upgrader.Request(r)
}

// retract takes back what was not started.
func (h *releaseHost) retract(request string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handed == request {
		h.handed = ""
	}
	h.upgrader.Retract(request)
}

// displaced is told that the upgrader was given something else.
func (h *releaseHost) displaced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handed = ""
}

func (h *releaseHost) standing(o rollout.Order) rollout.Standing {
	return h.stands(o, h.upgrader.Status())
}

func (h *releaseHost) stands(o rollout.Order, status upgrade.Status) rollout.Standing {
	s := rollout.Standing{Runs: satisfied(o, status), There: there(o, status)}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.refused == o.Request && o.Request != "":
		s.State, s.Reason = rollout.ReportRefused, h.reason
	case status.OrderID == o.Request && status.Unbegun == "": // else it is as if it had not been asked for
		h.handed = ""
		s.State, s.Reason, s.Class = progress(o, status.Attempt)
	case slices.Contains(status.Earlier, o.Request):
		// Something else was asked of the host since, and only how that ended is
		// known.
		if s.State = rollout.ReportFailed; s.Runs {
			s.State = rollout.ReportDone
		}
		s.Reason = "another request has taken its place"
	case h.handed == o.Request && (o.GiveUp <= 0 || time.Now().Before(h.until)):
		s.State = rollout.ReportStarted
	case h.orders.open():
		s.State, s.Reason = rollout.ReportWaiting, "an order to this host goes first"
	}
	return s
}

// progress tells how far the attempt that o has led to has got.
func progress(o rollout.Order, a upgrade.Attempt) (s rollout.ReportState, reason, class string) {
	switch a.State { //nolint:exhaustive // in all others it is under way
	case upgrade.Committed:
		if s = rollout.ReportDone; o.Action == rollout.ActStage {
			s = rollout.ReportStaged
		}
		return s, "", ""
	case upgrade.Failed:
		// Before anything of the release was asked for, it is only a no.
		if s = rollout.ReportFailed; a.Class == "" && a.To.Binary == "" {
			s = rollout.ReportRefused
		}
		return s, a.Reason, string(a.Class)
	case upgrade.RolledBack:
		return rollout.ReportFailed, a.Reason, string(a.Class)
	case upgrade.Staged:
		if a.Reason != "" { // it waits for the program
			return rollout.ReportWaiting, a.Reason, ""
		}
	}
	return rollout.ReportStarted, "", ""
}

// satisfied reports whether what o asks for is so, whoever did it.
func satisfied(o rollout.Order, s upgrade.Status) bool {
	switch o.Action {
	case rollout.ActRevert:
		return !same(s.Running, o.From.Release)
	case rollout.ActSwitch:
		return same(s.Running, o.Target.Release)
	case rollout.ActStage:
	}
	return same(s.Running, o.Target.Release) || s.Staged != nil && same(*s.Staged, o.Target.Release)
}

// there reports whether o needs nothing from outside.
func there(o rollout.Order, s upgrade.Status) bool {
	return o.Action == rollout.ActRevert ||
		s.Staged != nil && same(*s.Staged, o.Target.Release) ||
		slices.ContainsFunc(s.Retained, func(r upgrade.Ref) bool { return same(r, o.Target.Release) })
}

// same compares what a release is, not what it is called.
func same(r upgrade.Ref, pin release.Pin) bool {
	return r.Version == pin.Version && r.Manifest == pin.Digest
}

func heldBy(h *upgrade.Hold) string {
	by, why := h.By, h.Reason
	if by == "" {
		by = "somebody"
	}
	if why == "" {
		why = "no reason was given"
	}
	return by + ": " + why
}
