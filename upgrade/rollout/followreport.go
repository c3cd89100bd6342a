package rollout

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	// maxReportReason bounds Report.Reason, in bytes.
	maxReportReason = 300
	// maxBefore is how many names Report.Before has, of at most maxBeforeName bytes.
	maxBefore, maxBeforeName = 16, 128
)

// say reports how the host stands to o, if that is news.
func (f *Follower) say(now time.Time, o Order, s Standing) {
	r := Report{Request: o.Request, State: s.State, Reason: reasonOf(s.Reason), Class: s.Class, At: reported(now)}
	last := f.kept.Report
	if last.Request == r.Request && last.State == r.State && last.Reason == r.Reason {
		return
	}
	if r.Before = last.Before; last.Request != r.Request {
		r.Before = f.alarms(r.Request)
	}
	f.kept.Report, f.kept.Order = r, o
	if r.State.Ended() {
		if f.kept.Begun == r.Request {
			f.kept.Begun = ""
		}
		f.handed = ""
		f.cfg.Logger.Info("rollout reported", "attempt", o.Request, "state", r.State, "reason", r.Reason)
	}
	if r.State != ReportWaiting { // which is found out anew
		f.keep()
	}
	f.publish(&r, 0)
}

// alarms is Report.Before of request from now on. What was named stays: it may
// have been another process that saw it.
func (f *Follower) alarms(request string) []string {
	var names []string
	if r := f.kept.Report; r.Request == request {
		names = slices.Clone(r.Before)
	}
	for _, name := range f.cfg.Alarms() {
		if name != "" && len(name) <= maxBeforeName && len(names) < maxBefore && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// toldWithin is ReportWithin of a start.
func (p *Plan) toldWithin() time.Duration {
	return min(time.Duration(p.Cursor.together()-1)*tellPerAgent, tellMost)
}

// reported is a time as reports tell it.
func reported(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// keep writes down what is reported. A disk that does not take it is the
// host's to refuse: what it begins it writes down, too.
func (f *Follower) keep() {
	if p := f.plan; p != nil && p.Request() == f.kept.Order.Request {
		f.kept.Newest = ageOf(p)
	}
	err := f.kept.write(f.cfg.State)
	if err != nil && f.keepErr == nil {
		f.cfg.Logger.Error("report of a rollout not kept on disk", "error", err)
	}
	if f.keepErr = err; err != nil {
		f.keepErr = fmt.Errorf("%s: %w", f.cfg.State, err)
	}
	f.tellTrouble()
}

func (f *Follower) publish(r *Report, within time.Duration) {
	f.mu.Lock()
	f.report, f.within = r, within
	f.mu.Unlock()
	f.cfg.OnReport()
}

func (f *Follower) tellTrouble() {
	err := errors.Join(f.planErr, f.brakeErr, f.keepErr)
	if errors.Is(f.deaf, rpctypes.ErrPermissionDenied) { // any other is an outage, which is told elsewhere
		err = errors.Join(err, fmt.Errorf("%s: %w: give this agent's role the right to read plan/ and freeze/", f.keys.plan(), f.deaf))
	}
	f.mu.Lock()
	changed := (err == nil) != (f.trouble == nil) || err != nil && err.Error() != f.trouble.Error()
	f.trouble = err
	f.mu.Unlock()
	if changed {
		f.cfg.OnReport()
	}
}

// reasonOf is text in at most maxReportReason bytes.
func reasonOf(text string) string {
	if len(text) <= maxReportReason {
		return text
	}
	n := maxReportReason - len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
