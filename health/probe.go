package health

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// probe is a check with its last result. Monitor.mu guards it.
type probe struct {
	check    Check
	due      time.Time
	inflight *attempt

	ran      bool
	text     string // why it failed; "" if it did not
	blocker  string // what fails, so that this check is not run; "" if it may be
	since    time.Time
	at       time.Time
	duration time.Duration
}

func (p *probe) ok() bool { return p.ran && p.text == "" }

// settled reports whether the last result is the last one for ever.
func (p *probe) settled() bool { return p.check.Kind == Startup && p.ok() }

func (p *probe) report() CheckReport {
	r := CheckReport{
		Name: p.check.Name, Kind: p.check.Kind, OK: p.ok(), Error: p.text,
		Since: p.since, At: p.at, Duration: p.duration.Seconds(), idle: p.blocker != "",
	}
	if !p.ran {
		r.Error = "has not run yet"
	}
	if p.inflight != nil && p.inflight.over {
		r.Error += "; the call from " + p.inflight.began.UTC().Format(time.RFC3339) + " has not returned"
	}
	return r
}

// start calls the check's function in a goroutine. m.mu is held. ctx ends the
// call early; its result is then dropped.
func (m *Monitor) start(ctx context.Context, p *probe) {
	p.inflight = m.begin(ctx, p.check.Timeout, p.check.Func, asked{
		settle: func(err error, took time.Duration) { m.settle(p, err, took) },
		returned: func(took time.Duration, late bool) {
			if late {
				m.log.Info("health check returned after its timeout", "check", p.check.Name, "duration", took)
			}
			stale := p.inflight.stale
			p.inflight = nil
			if stale { // its turn was taken from it
				p.due = time.Now()
				notify(m.wake)
			}
		},
	})
}

// settle takes the result of a call. m.mu is held.
func (m *Monitor) settle(p *probe, err error, took time.Duration) {
	if m.probes[p.check.Name] != p {
		return
	}
	now := time.Now()
	text := errorText(err)
	wasOK, first := p.ok(), !p.ran
	p.ran, p.text, p.at, p.duration = true, text, now, took
	if first || wasOK != p.ok() {
		p.since = now
		switch {
		case !p.ok():
			m.log.Warn("health check failed", "check", p.check.Name, "kind", p.check.Kind, "error", text)
		case !first:
			m.log.Info("health check passes again", "check", p.check.Name, "kind", p.check.Kind)
		}
		m.propagate(now)
	}
	m.treeChanged()
}

// condition is a pushed state. Monitor.mu guards it.
type condition struct {
	kind  Kind // Readiness or Startup
	text  string
	since time.Time
	at    time.Time // zero: it was not pushed yet
}

func (c *condition) told() bool { return !c.at.IsZero() }
func (c *condition) ok() bool   { return c.told() && c.text == "" }

func (c *condition) report(name string) CheckReport {
	r := CheckReport{Name: name, Kind: c.kind, Pushed: true, OK: c.ok(), Error: c.text, Since: c.since, At: c.at}
	if !c.told() {
		r.Error = "has not been told yet"
	}
	return r
}

const maxErrorText = 1024

// errorText is one line of at most maxErrorText bytes, "" only for nil: the
// text goes into a key of etcd and onto terminals.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	if text := oneLine(err.Error()); strings.TrimSpace(text) != "" {
		return text
	}
	return "failed without a reason"
}

// oneLine is text of other people's making in at most maxErrorText bytes.
func oneLine(text string) string {
	if len(text) > maxErrorText {
		cut := maxErrorText - len("…")
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
