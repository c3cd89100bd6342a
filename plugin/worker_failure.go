package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// silentLimit is how many health checks in a row may go unanswered.
const silentLimit = 2

// failed accounts a start that did not succeed.
func (w *worker) failed(ctx context.Context, t *trial, err error) {
	if ctx.Err() != nil {
		return
	}
	w.log.Warn("plugin did not start", "plugin_version", t.bundle.manifest.Version, "error", err)
	w.count(err.Error())
	if t != w.base && t != w.next {
		// A restart that was asked for: what was in charge before still is.
		if w.current == nil {
			w.settle(ctx, w.base)
		}
		return
	}
	switch {
	case errors.Is(err, errRefused):
		t.verdict, t.reason = Refused, err.Error()
	case shortage(err):
		t.reason = err.Error() // it is tried again for as long as it takes
	default:
		t.crash(w.cfg, time.Now(), 0, err.Error())
	}
	w.settle(ctx, t)
}

// died accounts the end of the current process; why is "" if it ended by
// itself.
func (w *worker) died(ctx context.Context, why string) {
	i := w.current
	i.discard()
	if why == "" {
		why = fmt.Sprintf("it ended unexpectedly (%s%s)", i.proc.outcome(), i.said.lastWords())
	}
	w.log.Warn("plugin died", "plugin_version", i.bundle.manifest.Version, "reason", why)
	w.vacate()
	w.count(why)
	t := w.base
	t.crash(w.cfg, time.Now(), time.Since(w.since), why)
	switch {
	case w.launch != nil:
		w.set(Starting, why)
	case w.next != nil && w.next.verdict == "":
		// The operator wants the next one; what it replaces is not started
		// again, unless the next one turns out to be unusable.
		w.start(ctx)
	default:
		w.settle(ctx, t)
	}
}

// settle publishes how t, which was just accounted, fared, and plans what
// comes next.
func (w *worker) settle(ctx context.Context, t *trial) {
	if t == w.next && (w.current != nil || t.verdict != "") {
		what := "will be tried again"
		if t.verdict != "" {
			what = "is " + string(t.verdict)
		}
		w.remark(fmt.Sprintf("%s stays in force, %s %s: %s", w.base.bundle, t.bundle, what, t.reason))
		if t.verdict == "" {
			w.retry.Reset(t.backoff.Next())
		}
		if w.current != nil {
			return
		}
		t = w.base // died meanwhile, and is the better of the two
		if t.verdict == "" {
			w.start(ctx)
			return
		}
	}
	if t.verdict != "" {
		w.set(t.verdict, t.reason)
		return
	}
	wait := t.backoff.Next()
	w.retry.Reset(wait)
	w.set(BackingOff, fmt.Sprintf("%s; next start in %s", t.reason, wait.Round(time.Millisecond)))
}

// checkHealth asks the current process how it is.
func (w *worker) checkHealth(ctx context.Context) {
	i := w.current
	if i == nil {
		return
	}
	defer w.health.Reset(w.pause())
	limited, cancel := context.WithTimeout(ctx, w.cfg.HealthTimeout)
	problem, err := i.health(limited)
	if err != nil {
		// A connection breaks a moment before the process that held it has
		// been reaped; that is one death, not a failed check besides.
		select {
		case <-i.proc.exited:
		case <-limited.Done():
		}
	}
	cancel()
	if ctx.Err() != nil || i.hasExited() {
		return // the loop sees to it
	}
	if err != nil {
		w.unanswered(ctx, i, err)
		return
	}
	w.silent = 0
	usage := i.proc.usage()
	w.mu.Lock()
	w.status.Usage = usage
	was := w.status.State
	w.mu.Unlock()
	switch {
	case problem != "":
		if was == Running {
			w.count(problem)
		}
		w.set(Degraded, problem)
	case was == Degraded:
		w.set(Running, "")
	}
}

// unanswered accounts a health check without an answer.
func (w *worker) unanswered(ctx context.Context, i *instance, err error) {
	w.silent++
	why := fmt.Sprintf("it did not answer a health check within %s: %v", w.cfg.HealthTimeout, err)
	w.count(why)
	if w.silent < silentLimit {
		w.set(Degraded, why)
		return
	}
	i.proc.kill()
	w.died(ctx, fmt.Sprintf("it did not answer %d health checks in a row and was killed", w.silent))
}
