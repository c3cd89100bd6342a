package health

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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

// attempt is one call of a check's function.
type attempt struct {
	began  time.Time
	cancel context.CancelFunc
	// done is closed when there is a result, be it that the time is over.
	done  chan struct{}
	over  bool // done is closed
	stale bool // the result does not count
}

func (p *probe) ok() bool { return p.ran && p.text == "" }

// settled reports whether the last result is the last one for ever.
func (p *probe) settled() bool { return p.check.Kind == Startup && p.ok() }

func (p *probe) report() CheckReport {
	r := CheckReport{
		Name: p.check.Name, Kind: p.check.Kind, OK: p.ok(), Error: p.text,
		Since: p.since, At: p.at, Duration: p.duration.Seconds(),
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
	callCtx, cancel := context.WithTimeout(ctx, p.check.Timeout)
	a := &attempt{began: time.Now(), cancel: cancel, done: make(chan struct{})}
	p.inflight = a
	m.active[a] = struct{}{}
	overdue := time.AfterFunc(p.check.Timeout, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.settle(ctx, p, a, errTimeout)
	})
	go func() {
		err := call(callCtx, p.check.Func)
		overdue.Stop()
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		if a.over {
			m.log.Info("health check returned after its timeout", "check", p.check.Name, "duration", time.Since(a.began))
		}
		p.inflight = nil
		if a.stale { // its turn was taken from it
			p.due = time.Now()
			notify(m.wake)
		}
		m.settle(ctx, p, a, err)
	}()
}

var errTimeout = errors.New("timeout")

// settle gives an attempt its one result. m.mu is held.
func (m *Monitor) settle(ctx context.Context, p *probe, a *attempt, err error) {
	if a.over {
		return
	}
	a.over = true
	close(a.done)
	delete(m.active, a)
	if ctx.Err() != nil || a.stale || m.probes[p.check.Name] != p {
		return
	}
	now := time.Now()
	took := now.Sub(a.began)
	text := errorText(err)
	if errors.Is(err, errTimeout) || (errors.Is(err, context.DeadlineExceeded) && took >= p.check.Timeout) {
		text = fmt.Sprintf("no answer within %v", p.check.Timeout)
	}
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

func call(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v: %s", v, debug.Stack())
		}
	}()
	if err = f(ctx); err != nil {
		_ = err.Error() // a typed nil would panic where nothing recovers
	}
	return err
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
	text := err.Error()
	if len(text) > maxErrorText {
		cut := maxErrorText - len("…")
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if strings.TrimSpace(text) == "" {
		return "failed without a reason"
	}
	return text
}
