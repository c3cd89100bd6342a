package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// silentLimit is how many health checks in a row may go unanswered.
const silentLimit = 2

// finding is what a scan says about one plugin.
type finding struct {
	bundle  *bundle // nil if the files cannot be used
	problem error
	// pending means that the files may still be being written.
	pending bool
}

// trial is one bundle and how it has fared.
type trial struct {
	bundle  *bundle
	crashes []time.Time
	backoff backoff.Backoff
	// verdict is set once it is not to be started any more.
	verdict State
	reason  string
}

// worker looks after one plugin. run owns everything but what mu guards.
type worker struct {
	name     string
	cfg      *Config
	launcher *launcher
	log      *slog.Logger
	notify   func()
	disabled *disabled
	findings chan finding // the newest only
	orders   chan order
	woken    chan struct{}   // the set of disabled plugins has changed
	ctx      context.Context // ends run
	stop     context.CancelFunc
	handover

	base   *trial // what runs or is to run
	next   *trial // what is to replace it while base runs; else nil
	silent int
	retry  *time.Timer
	drains sync.WaitGroup

	mu       sync.Mutex
	status   Status
	note     string // about files that are not in force
	current  *instance
	pinned   []string
	accepted *bundle // what status is about; nil if there is none
}

func newWorker(name string, l *launcher, d *disabled, h handover, notify func()) *worker {
	w := &worker{
		handover: h,
		name:     name, cfg: l.cfg, launcher: l, notify: notify,
		log:      l.cfg.Logger.With("plugin", name),
		disabled: d,
		findings: make(chan finding, 1),
		orders:   make(chan order),
		woken:    make(chan struct{}, 1),
		retry:    time.NewTimer(time.Hour),
	}
	w.retry.Stop()
	w.status = Status{Name: name, State: Discovered, Since: time.Now()}
	return w
}

// offer hands over a finding; an older one not yet looked at is dropped. It
// has one caller, the scan.
func (w *worker) offer(f finding) {
	select {
	case <-w.findings:
	default:
	}
	w.findings <- f
}

// wake makes the worker look whether its plugin is disabled.
func (w *worker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) {
	defer w.retry.Stop()
	health := time.NewTicker(w.cfg.HealthEvery)
	defer health.Stop()
	for ctx.Err() == nil {
		var exited <-chan struct{}
		if w.current != nil {
			exited = w.current.proc.exited
		}
		select {
		case <-ctx.Done():
		case <-exited:
			w.died(ctx, "")
		case f := <-w.findings:
			w.consider(ctx, f)
		case o := <-w.orders:
			o.done <- w.restart(ctx)
		case <-w.woken:
			w.toggle(ctx)
		case <-w.retry.C:
			w.start(ctx)
		case <-health.C:
			w.checkHealth(ctx)
		}
	}
	w.end()
}

// consider decides what a finding changes.
func (w *worker) consider(ctx context.Context, f finding) {
	switch {
	case f.bundle == nil && (w.base == nil || w.base.verdict != "") && !f.pending:
		w.base = nil
		w.set(Refused, f.problem.Error())
	case f.bundle == nil && w.base == nil:
		w.set(Discovered, f.problem.Error())
	case f.bundle == nil && w.current == nil:
		w.remark("the files in the directory cannot be used: " + f.problem.Error())
	case f.bundle == nil:
		w.remark(fmt.Sprintf("%s stays in force, the files in the directory are not: %v", w.base.bundle.manifest.Version, f.problem))
	case w.candidate() != nil && w.candidate().bundle.identity == f.bundle.identity &&
		(w.candidate().verdict == "" || w.candidate().bundle.print == f.bundle.print):
		w.candidate().bundle = f.bundle
		if w.next == nil {
			w.remark("")
		}
	case w.current != nil && w.base.bundle.identity == f.bundle.identity:
		w.next = nil // put back what runs
		w.remark("")
	default:
		w.adopt(ctx, f.bundle)
	}
}

// candidate is the newest bundle that was taken up.
func (w *worker) candidate() *trial {
	if w.next != nil {
		return w.next
	}
	return w.base
}

// adopt takes up a new bundle and starts it.
func (w *worker) adopt(ctx context.Context, b *bundle) {
	t := w.fresh(b)
	if w.current != nil {
		w.next = t
	} else {
		w.base, w.next = t, nil
		w.remark("")
	}
	w.pin()
	w.start(ctx)
}

// start starts the newest bundle that may be started: as a successor of the
// one that runs, or in its place.
func (w *worker) start(ctx context.Context) {
	w.retry.Stop()
	if a, off := w.disabled.get(w.name); off {
		w.set(Disabled, a.String())
		return
	}
	t := w.candidate()
	if w.current == nil && w.next != nil && w.next.verdict != "" {
		t = w.base
	}
	if t == nil || t.verdict != "" || (w.current != nil && t == w.base) {
		return
	}
	replacing := len(t.crashes) > 0 && w.current == nil
	if w.current == nil {
		w.set(Starting, "")
	} else {
		w.remark(fmt.Sprintf("%s is starting and will replace %s", t.bundle, w.base.bundle))
	}
	log := w.log.With("version", t.bundle.manifest.Version)
	i, err := w.launcher.launch(ctx, t.bundle, log, func(pid int) {
		log.Info("plugin process started", "pid", pid)
		if w.current == nil {
			w.update(func(s *Status) {
				s.PID = pid
				if replacing {
					s.Restarts++
				}
			})
		}
	})
	if err != nil {
		if ctx.Err() == nil {
			w.failed(ctx, t, err)
		}
		return
	}
	w.swap(t, i)
}

// toggle acts on a change of whether the plugin is disabled.
func (w *worker) toggle(ctx context.Context) {
	a, off := w.disabled.get(w.name)
	if !off {
		if w.current == nil && w.base != nil {
			w.base = w.fresh(w.base.bundle)
			w.start(ctx)
		}
		return
	}
	if i := w.current; i != nil {
		w.set(Draining, a.String())
		w.vacate()
		w.drains.Go(func() { i.drain(w.patient, w.cfg.DrainTimeout, w.cfg.StopTimeout) })
	}
	w.retry.Stop()
	w.set(Disabled, a.String())
}

// restart puts a new generation of what is in charge in its place.
func (w *worker) restart(ctx context.Context) error {
	if w.base == nil {
		return fmt.Errorf("%w: %s", ErrNotRunning, w.snapshot().Reason)
	}
	t := w.fresh(w.base.bundle)
	if w.current == nil {
		w.base = t
		w.start(ctx)
		if w.current == nil {
			return fmt.Errorf("%w: %s", ErrNotRunning, w.snapshot().Reason)
		}
		return nil
	}
	i, err := w.launcher.launch(ctx, t.bundle, w.log, func(int) {})
	if err != nil {
		return err
	}
	w.base = t
	w.swap(t, i)
	return nil
}

// fresh is a trial of b without a past.
func (w *worker) fresh(b *bundle) *trial {
	return &trial{bundle: b, backoff: backoff.Backoff{Min: w.cfg.BackoffMin, Max: w.cfg.BackoffMax}}
}

// swap makes i the instance that takes tasks and drains the one before.
func (w *worker) swap(t *trial, i *instance) {
	old := w.current
	promoted := w.next == t
	if promoted {
		w.base, w.next = t, nil
	}
	w.silent = 0
	usage := i.proc.usage()
	w.mu.Lock()
	w.current = i
	w.status.State, w.status.Since = Running, time.Now()
	w.status.Reason = ""
	if promoted {
		w.note = "" // it was about this one
	}
	w.status.PID, w.status.Usage, w.status.Limits = i.proc.pid(), usage, i.proc.limits()
	w.accept(t.bundle)
	w.mu.Unlock()
	w.pin()
	w.notify()
	w.log.Info("plugin is running", "version", t.bundle.manifest.Version, "pid", i.proc.pid())
	w.launcher.keep(i, w.snapshot())
	if old != nil {
		w.drains.Go(func() { old.drain(w.patient, w.cfg.DrainTimeout, w.cfg.StopTimeout) })
	}
}

// failed accounts a start that did not succeed.
func (w *worker) failed(ctx context.Context, t *trial, err error) {
	w.log.Warn("plugin did not start", "version", t.bundle.manifest.Version, "error", err)
	w.count()
	if errors.Is(err, errRefused) {
		t.verdict, t.reason = Refused, err.Error()
	} else {
		w.crash(t, err.Error())
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
	w.log.Warn("plugin died", "version", i.bundle.manifest.Version, "reason", why)
	w.vacate()
	w.count()
	t := w.base
	w.crash(t, why)
	if w.next != nil && w.next.verdict == "" {
		// The operator wants the next one; what it replaces is not started
		// again, unless the next one turns out to be unusable.
		w.start(ctx)
		return
	}
	w.settle(ctx, t)
}

// crash adds a death to t's account and judges.
func (w *worker) crash(t *trial, why string) {
	now := time.Now()
	t.crashes = slices.DeleteFunc(t.crashes, func(at time.Time) bool { return now.Sub(at) > w.cfg.CrashWindow })
	if len(t.crashes) == 0 {
		t.backoff.Reset()
	}
	t.crashes = append(t.crashes, now)
	t.reason = why
	if len(t.crashes) >= w.cfg.CrashLimit {
		t.verdict = Quarantined
		t.reason = fmt.Sprintf("it failed %d times within %s, the last time: %s; replace its files, or touch one of them to try again", len(t.crashes), w.cfg.CrashWindow, why)
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
		w.count()
		w.silent++
		if w.silent < silentLimit {
			w.set(Degraded, fmt.Sprintf("it did not answer a health check within %s: %v", w.cfg.HealthTimeout, err))
			return
		}
		i.proc.kill()
		w.died(ctx, fmt.Sprintf("it did not answer %d health checks in a row and was killed", w.silent))
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
			w.count()
		}
		w.set(Degraded, problem)
	case was == Degraded:
		w.set(Running, "")
	}
}

// end stops what runs, because the files or the host are gone, or leaves it to
// another host.
func (w *worker) end() {
	defer w.left()
	leaving := w.leaving()
	if !leaving {
		w.rush()
	}
	i := w.current
	handed := leaving && i != nil && i.proc.adoptable()
	switch {
	case handed:
		w.leave(i)
	case i != nil:
		w.set(Draining, "")
		i.drain(w.patient, 0, w.cfg.StopTimeout)
		w.vacate()
	}
	if leaving {
		w.left()
	}
	w.drains.Wait()
	w.rush()
	if !handed {
		w.set(Stopped, "")
	}
}
