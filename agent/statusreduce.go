package agent

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// reducer counts what it leaves out.
type reducer struct {
	detail
	out map[string]int
}

// reduced is a copy of s with no more than d says. s is not touched.
func (s Status) reduced(d detail) Status {
	r := &reducer{d, map[string]int{}}
	s.At = s.At.Truncate(time.Millisecond)
	s.Health = r.health(s.Health)
	s.Upgrade = r.upgrade(s.Upgrade)
	if s.Config != nil {
		c := r.config(*s.Config)
		s.Config = &c
	}
	if s.Presence != nil {
		p := *s.Presence
		p.HeartbeatError, p.Stale = r.clip(p.HeartbeatError), r.clip(p.Stale)
		p.EtcdHeard = p.EtcdHeard.Truncate(time.Millisecond)
		if r.bare {
			p.LastRestored = nil
		}
		if p.LastRestored != nil {
			last := *p.LastRestored
			last.Key, last.At = r.clip(last.Key), last.At.Truncate(time.Second)
			p.LastRestored = &last
		}
		s.Presence = &p
	}
	s.OrderError, s.RolloutError = r.clip(s.OrderError), r.clip(s.RolloutError)
	if r.bare {
		s.RolloutError = "" // which is in the tree
	}
	s.Rollout = r.rollout(s.Rollout, &s.Health)
	s.Responses = first(r, "responses", s.Responses, r.other)
	for i, o := range s.Responses {
		o.Alert, o.Action = exact(r, o.Alert, nameLimit), exact(r, o.Action, 2*nameLimit)
		o.Outcome, o.Detail, o.At = exact(r, o.Outcome, nameLimit), r.clip(o.Detail), o.At.Truncate(time.Second)
		s.Responses[i] = o
	}
	if s.Tree != nil {
		tree := r.tree(*s.Tree)
		s.Tree = &tree
	}
	if s.LeftOut = r.out; len(r.out) == 0 {
		s.LeftOut = nil
	}
	return s
}

// clip cuts text off so that it takes at most r.text bytes as JSON, and three
// for the sign that it was cut.
func (r *reducer) clip(text string) string { return r.clipTo(text, r.text) }

func (r *reducer) clipTo(text string, limit int) string {
	n, took := jsonPrefix(text, limit)
	if !took {
		return text
	}
	r.out["text"] += len(text) - n
	return text[:n] + "…"
}

// exact is text that is of no use unless it is whole: it goes if it is longer
// than anything of its kind is.
func exact[T ~string](r *reducer, text T, limit int) T {
	if _, cut := jsonPrefix(string(text), limit); cut {
		r.out["text"] += len(text)
		return ""
	}
	return text
}

// jsonPrefix is how many bytes of text fit into so many of JSON, and whether
// that is not all of it.
func jsonPrefix(text string, limit int) (n int, cut bool) {
	took := 0
	for i, c := range text {
		size := utf8.RuneLen(c)
		switch {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
			size = 2
		case c < ' ', c == 0x7f, c == '\u2028', c == '\u2029', c == utf8.RuneError:
			size = 6
		}
		if took += size; took > limit {
			return i, true
		}
	}
	return len(text), false
}

// newest and first keep a part of a list, in a new slice, and count the rest.
func newest[T any](r *reducer, what string, all []T, n int) []T {
	return slices.Clone(all[r.cut(what, len(all), n):])
}

func first[T any](r *reducer, what string, all []T, n int) []T {
	return slices.Clone(all[:len(all)-r.cut(what, len(all), n)])
}

func (r *reducer) cut(what string, are, n int) int {
	over := max(are-n, 0)
	if over > 0 {
		r.out[what] += over
	}
	return over
}

func (r *reducer) ref(f upgrade.Ref) upgrade.Ref {
	limit := nameLimit
	if r.bare {
		limit /= 2
	}
	return upgrade.Ref{Version: exact(r, f.Version, limit), Manifest: exact(r, f.Manifest, digestLimit), Binary: exact(r, f.Binary, digestLimit)}
}

const (
	nameLimit = 128 // an id's, and longer than a version has reason to be
	// requestLimit is an id's with the number of an instruction.
	requestLimit = nameLimit + 24
	wordLimit    = 24 // longer than any state, class or kind
	digestLimit  = len("sha256:") + 64
)

func (r *reducer) upgrade(u upgrade.Status) upgrade.Status {
	u.OrderID, u.Action = exact(r, u.OrderID, nameLimit), exact(r, u.Action, wordLimit)
	u.State, u.Class = exact(r, u.State, wordLimit), exact(r, u.Class, wordLimit)
	u.By, u.Asked, u.AllowedBy, u.Reason = r.clip(u.By), r.clip(u.Asked), r.clip(u.AllowedBy), r.clip(u.Reason)
	u.From, u.To, u.Running = r.ref(u.From), r.ref(u.To), r.ref(u.Running)
	u.Program, u.Traceparent = exact(r, u.Program, nameLimit), exact(r, u.Traceparent, digestLimit)
	u.Started, u.Updated, u.Deadline = u.Started.Truncate(time.Second), u.Updated.Truncate(time.Second), u.Deadline.Truncate(time.Second)
	u.RecalledBy, u.GiveUp = exact(r, u.RecalledBy, nameLimit), u.GiveUp.Truncate(time.Second)
	u.Unbegun = exact(r, u.Unbegun, wordLimit)
	u.Log = newest(r, "log", u.Log, r.log)
	for i, line := range u.Log {
		u.Log[i] = r.clip(line)
	}
	u.Earlier = first(r, "earlier", u.Earlier, max(r.other, 1))
	for i, id := range u.Earlier {
		u.Earlier[i] = exact(r, id, nameLimit)
	}
	u.Retained = first(r, "retained", u.Retained, r.retained)
	for i, ref := range u.Retained {
		u.Retained[i] = r.ref(ref)
	}
	if u.Staged != nil {
		staged := r.ref(*u.Staged)
		u.Staged = &staged
	}
	u.Withdrawn = first(r, "withdrawn", u.Withdrawn, r.retained)
	for i, w := range u.Withdrawn {
		u.Withdrawn[i] = upgrade.Withdrawn{Ref: r.ref(w.Ref), Reason: r.clip(w.Reason)}
	}
	if u.LastFailed != nil { // which is told anyhow; UnmarshalJSON puts it back
		u.Quarantine = slices.DeleteFunc(slices.Clone(u.Quarantine), isFailed(*u.LastFailed))
	}
	u.Quarantine = newest(r, "quarantine", u.Quarantine, r.quarantine)
	for i, q := range u.Quarantine {
		u.Quarantine[i] = r.quarantined(q)
	}
	if u.LastFailed != nil {
		q := r.quarantined(*u.LastFailed)
		u.LastFailed = &q
	}
	u.Yanked = r.clip(u.Yanked)
	if u = r.rest(u); r.bare {
		u = r.barest(u)
	}
	return u
}

// barest leaves out what the host's state directory tells as well.
func (r *reducer) barest(u upgrade.Status) upgrade.Status {
	u.From.Manifest, u.From.Binary, u.To.Binary, u.Deadline = "", "", "", time.Time{}
	u.Progress, u.Staged = nil, nil
	u.Probation, u.Retain, u.GiveUp, u.RecalledBy = 0, 0, time.Time{}, ""
	u.Program, u.By, u.Asked, u.AllowedBy, u.Traceparent = "", "", "", "", ""
	if u.LastFailed != nil {
		u.LastFailed.Manifest, u.LastFailed.Binary = "", ""
	}
	if p := u.Provenance; p != nil {
		u.Provenance = &upgrade.Provenance{Revoked: p.Revoked, Error: p.Error}
		if p.Revoked != nil { // why, the tree says
			p.Revoked.Key, p.Revoked.Reason, u.Provenance.Error = "", "", ""
		}
		r.out["provenance"]++
	}
	return u
}

func (r *reducer) quarantined(q upgrade.Quarantined) upgrade.Quarantined {
	q.Ref, q.Class, q.Reason = r.ref(q.Ref), exact(r, q.Class, wordLimit), r.clip(q.Reason)
	q.Since, q.Until = q.Since.Truncate(time.Second), q.Until.Truncate(time.Second)
	return q
}

// rest is of what hangs on an upgrade's status.
func (r *reducer) rest(u upgrade.Status) upgrade.Status {
	if u.Progress != nil {
		p := *u.Progress
		p.Form, p.Passed = r.clip(p.Form), r.clip(p.Passed)
		u.Progress = &p
	}
	if u.Hold != nil {
		h := *u.Hold
		h.By, h.Reason, h.Since = r.clip(h.By), r.clip(h.Reason), h.Since.Truncate(time.Second)
		u.Hold = &h
	}
	if u.Answer != nil {
		a := *u.Answer
		a.OrderID, a.Action, a.Error = exact(r, a.OrderID, nameLimit), exact(r, a.Action, wordLimit), r.clip(a.Error)
		u.Answer = &a
	}
	if u.Provenance != nil {
		p := *u.Provenance
		p.Revision, p.Go, p.Created = r.clip(p.Revision), r.clip(p.Go), p.Created.Truncate(time.Second)
		p.AllowedBy, p.By, p.Error = r.clip(p.AllowedBy), r.clip(p.By), r.clip(p.Error)
		if p.SignedBy != nil {
			by := *p.SignedBy
			by.Key, by.Comment = r.clip(by.Key), r.clip(by.Comment)
			p.SignedBy = &by
		}
		if p.Rollback != nil {
			c := *p.Rollback
			c.OrderID = exact(r, c.OrderID, nameLimit)
			c.At = c.At.Truncate(time.Second)
			c.From, c.By, c.AllowedBy = r.clip(c.From), r.clip(c.By), r.clip(c.AllowedBy)
			p.Rollback = &c
		}
		if p.Revoked != nil {
			k := *p.Revoked
			k.Since = k.Since.Truncate(time.Second)
			k.ID, k.Reason, k.Key = r.clip(k.ID), r.clip(k.Reason), exact(r, k.Key, nameLimit)
			p.Revoked = &k
		}
		u.Provenance = &p
	}
	return u
}

// rollout keeps what agents are counted by, whatever else goes. Of what was so
// before their change that is the part that h, which is reduced, tells of.
func (r *reducer) rollout(report *rollout.Report, h *health.Report) *rollout.Report {
	if report == nil {
		return nil
	}
	o := *report
	o.Request, o.State = exact(r, o.Request, requestLimit), exact(r, o.State, wordLimit)
	// It says in the rollout's history why that failed, and no other part does.
	o.Class, o.Reason = exact(r, o.Class, wordLimit), r.clipTo(o.Reason, r.reason)
	o.At = o.At.Truncate(time.Millisecond)
	o.Before = slices.DeleteFunc(slices.Clone(o.Before), func(name string) bool {
		return !slices.ContainsFunc(h.Alerts, func(a health.Alert) bool { return a.Name == name }) &&
			!slices.ContainsFunc(h.Checks, func(c health.CheckReport) bool { return c.Name == name })
	})
	return &o
}

func (r *reducer) config(c config.Status) config.Status {
	c.RunningDigest, c.WantedDigest = exact(r, c.RunningDigest, digestLimit), exact(r, c.WantedDigest, digestLimit)
	c.RunningSince, c.WantedSince = c.RunningSince.Truncate(time.Millisecond), c.WantedSince.Truncate(time.Millisecond)
	c.EtcdHeard, c.EtcdSilentSince = c.EtcdHeard.Truncate(time.Millisecond), c.EtcdSilentSince.Truncate(time.Millisecond)
	if r.bare {
		c.RunningSince, c.WantedSince = time.Time{}, time.Time{}
		c.EtcdHeard, c.EtcdSilentSince = time.Time{}, time.Time{} // as in Presence
	}
	c.Origin, c.Error = r.clip(c.Origin), r.clip(c.Error)
	if c.LastFailed != nil {
		f := *c.LastFailed
		f.Digest, f.Key = exact(r, f.Digest, digestLimit), r.clip(f.Key)
		f.Reason, f.Subscriber, f.At = r.clip(f.Reason), r.clip(f.Subscriber), f.At.Truncate(time.Millisecond)
		c.LastFailed = &f
	}
	// The strongest layers come last.
	c.Layers = newest(r, "layers", c.Layers, r.layers)
	for i, l := range c.Layers {
		l.Name = r.clip(l.Name)
		l.Variables = first(r, "variables", l.Variables, r.other)
		for j, v := range l.Variables {
			l.Variables[j] = r.clip(v)
		}
		c.Layers[i] = l
	}
	c.Notes = first(r, "notes", c.Notes, r.notes)
	for i, n := range c.Notes {
		c.Notes[i] = r.clip(n)
	}
	return c
}

// health keeps what is wrong.
func (r *reducer) health(h health.Report) health.Report {
	h.At = h.At.Truncate(time.Millisecond)
	h.Checks = slices.DeleteFunc(slices.Clone(h.Checks), func(c health.CheckReport) bool { return c.OK })
	slices.SortStableFunc(h.Checks, func(a, b health.CheckReport) int { return severityOf(b, Running).Compare(severityOf(a, Running)) })
	h.Checks = first(r, "checks", h.Checks, r.checks)
	for i, c := range h.Checks {
		c.Kind = exact(r, c.Kind, wordLimit)
		c.Name, c.Error = exact(r, c.Name, nameLimit), r.clip(c.Error)
		c.Since, c.At = c.Since.Truncate(time.Second), c.At.Truncate(time.Second)
		h.Checks[i] = c
	}
	h.Indicators = slices.DeleteFunc(slices.Clone(h.Indicators), func(i health.IndicatorReport) bool { return i.State != health.Pending && i.State != health.Firing })
	h.Indicators = first(r, "indicators", h.Indicators, r.indicators)
	for i, n := range h.Indicators {
		n.Name, n.Rule, n.Basis = exact(r, n.Name, nameLimit), exact(r, n.Rule, nameLimit), r.clip(n.Basis)
		n.Unit, n.Error, n.State = exact(r, n.Unit, wordLimit), r.clip(n.Error), exact(r, n.State, wordLimit)
		n.At, n.Since, n.ErrorAt = n.At.Truncate(time.Second), n.Since.Truncate(time.Second), n.ErrorAt.Truncate(time.Second)
		h.Indicators[i] = n
	}
	h.Alerts = slices.Clone(h.Alerts)
	slices.SortStableFunc(h.Alerts, func(a, b health.Alert) int { return severityOfAlert(b).Compare(severityOfAlert(a)) })
	h.Alerts = first(r, "alerts", h.Alerts, r.alerts)
	for i, a := range h.Alerts {
		a.Name, a.Indicator, a.Unit = exact(r, a.Name, nameLimit), exact(r, a.Indicator, nameLimit), exact(r, a.Unit, wordLimit)
		a.State, a.Severity = exact(r, a.State, wordLimit), exact(r, a.Severity, wordLimit)
		a.Since, a.FiredAt, a.ResolvedAt = a.Since.Truncate(time.Second), a.FiredAt.Truncate(time.Second), a.ResolvedAt.Truncate(time.Second)
		h.Alerts[i] = a
	}
	return h
}

// nodeKinds is how many nodes there are right below an agent at most.
const nodeKinds = 6

// tree keeps of checks and indicators those that something is wrong with, of
// plugins the worst, and of what is well nothing but that it is.
func (r *reducer) tree(n Node) Node {
	n.Name, n.State, n.Reason = exact(r, n.Name, nameLimit), r.clip(n.State), r.clip(n.Reason)
	n.Severity = exact(r, n.Severity, wordLimit)
	n.Since = n.Since.Truncate(time.Second)
	children := slices.Clone(n.Children)
	limit := r.other
	switch n.Name {
	case nodeChecks, nodeIndicators:
		children = slices.DeleteFunc(children, func(c Node) bool { return c.Severity == SeverityOK })
		if limit = r.checks; n.Name == nodeIndicators {
			limit = r.alerts
		}
	case nodePlugins:
		limit = r.plugins
	default:
		limit = max(limit, nodeKinds)
	}
	leaves := n.Name == nodePlugins
	n.LeftOut = max(len(children)-limit, 0)
	children = children[:len(children)-n.LeftOut]
	n.Children = nil
	for _, c := range children {
		if c = r.tree(c); leaves && c.Severity == SeverityOK {
			c.Reason, c.Since = "", time.Time{} // as in its own record
		}
		n.Children = append(n.Children, c)
	}
	return n
}
