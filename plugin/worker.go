package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

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
	woken    chan chan struct{} // whether it is disabled has changed; closed once that is acted on
	ctx      context.Context    // ends run
	stop     context.CancelFunc
	handover

	base   *trial // what runs or is to run
	next   *trial // what is to replace it while base runs; else nil
	last   finding
	since  time.Time // when the current process came to be in charge
	silent int
	retry  *time.Timer
	health *time.Timer
	work   sync.WaitGroup // starts and drains
	calls  *callCount

	mu       sync.Mutex
	status   Status
	note     string // about files that are not in force
	launch   *launch
	current  *instance
	draining map[*instance]bool
	pinned   []string
	accepted *bundle // what status is about; nil if there is none
}

// launch is a start under way.
type launch struct {
	trial  *trial
	cancel context.CancelFunc
	landed chan landing // has room for the one
	orders []order      // who waits for what comes of it
	stale  bool         // what comes of it is not wanted any more
}

// landing is what came of a launch.
type landing struct {
	instance *instance
	err      error
}

func newWorker(name string, l *launcher, d *disabled, notify func()) *worker {
	w := &worker{
		name: name, cfg: l.cfg, launcher: l, notify: notify, disabled: d,
		log:      l.cfg.Logger.With("plugin", name),
		findings: make(chan finding, 1),
		orders:   make(chan order),
		woken:    make(chan chan struct{}),
		retry:    time.NewTimer(time.Hour),
		health:   time.NewTimer(time.Hour),
		draining: map[*instance]bool{},
	}
	w.retry.Stop()
	w.health.Stop()
	w.status = Status{Name: name, State: Discovered, Since: time.Now()}
	return w
}

// wake makes the worker look whether its plugin is disabled, and returns when
// its status says so.
func (w *worker) wake() {
	noticed := make(chan struct{})
	select {
	case w.woken <- noticed:
		<-noticed
	case <-w.ctx.Done():
	}
}

func (w *worker) run(ctx context.Context) {
	defer w.retry.Stop()
	defer w.health.Stop()
	if _, off := w.disabled.get(w.name); off { // perhaps while there was no host
		w.toggle(ctx)
	}
	for ctx.Err() == nil {
		var exited <-chan struct{}
		if w.current != nil {
			exited = w.current.proc.exited
		}
		var landed <-chan landing
		if w.launch != nil {
			landed = w.launch.landed
		}
		select {
		case <-ctx.Done():
		case <-exited:
			w.died(ctx, "")
		case r := <-landed:
			w.land(ctx, r)
		case f := <-w.findings:
			w.consider(ctx, f)
		case o := <-w.orders:
			w.restart(ctx, o)
		case noticed := <-w.woken:
			w.toggle(ctx)
			close(noticed)
		case <-w.retry.C:
			w.start(ctx)
		case <-w.health.C:
			w.checkHealth(ctx)
		}
	}
	w.end()
}

// start starts the newest bundle that may be started: as a successor of the
// one that runs, or in its place. If a start is under way, it is looked at
// again when that has landed.
func (w *worker) start(ctx context.Context) {
	w.retry.Stop()
	if w.launch != nil {
		return
	}
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
	w.begin(ctx, t)
}

// begin starts t; what comes of it lands in run.
func (w *worker) begin(ctx context.Context, t *trial) {
	replacing := w.current == nil && len(t.crashes) > 0
	switch {
	case w.current == nil:
		w.set(Starting, "")
	case t == w.next:
		w.remarkAt(slog.LevelInfo, fmt.Sprintf("%s is starting and will replace %s", t.bundle, w.base.bundle))
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &launch{trial: t, cancel: cancel, landed: make(chan landing, 1)}
	w.mu.Lock()
	w.launch = l
	w.mu.Unlock()
	log := w.log.With("plugin_version", t.bundle.manifest.Version)
	started := func(pid int) {
		log.Info("plugin process started", "pid", pid)
		w.update(func(s *Status) {
			if w.current != nil || l.stale {
				return
			}
			s.PID = pid
			if replacing {
				s.Restarts++
			}
		})
	}
	b := t.bundle
	w.work.Go(func() {
		i, err := w.launcher.launchInTurn(ctx, b, log, started)
		l.landed <- landing{i, err}
	})
}

// abandon gives up the start under way, if there is one.
func (w *worker) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.launch != nil {
		w.launch.stale = true
		w.launch.cancel()
	}
}

// land takes note of what came of a start.
func (w *worker) land(ctx context.Context, r landing) {
	l := w.launch
	w.mu.Lock()
	w.launch = nil
	w.mu.Unlock()
	l.cancel()
	switch {
	case l.stale:
		if r.instance != nil {
			w.retire(r.instance, 0)
		}
		w.start(ctx)
		if w.launch != nil {
			w.launch.orders = append(w.launch.orders, l.orders...)
			return
		}
		r.err = errors.New("it was replaced by something else meanwhile")
	case r.err != nil:
		w.failed(ctx, l.trial, r.err)
	default:
		w.swap(l.trial, r.instance)
	}
	for _, o := range l.orders {
		o.done <- w.outcome(r.err)
	}
}

// swap makes i the instance that takes tasks and drains the one before.
func (w *worker) swap(t *trial, i *instance) {
	old := w.current
	promoted := w.next == t
	if promoted {
		w.next = nil
	}
	w.base, w.silent, w.since = t, 0, time.Now()
	w.health.Reset(w.pause())
	usage := i.proc.usage()
	// Whoever sees it run may count on it that the next host finds it.
	counts := w.snapshot()
	if !t.counted {
		counts.Generation++
	}
	w.launcher.keep(i, counts)
	w.mu.Lock()
	w.current = i
	w.status.State, w.status.Since = Running, w.since
	w.status.Reason = ""
	if promoted {
		w.note = "" // it was about this one
	}
	t.counted = true
	w.status.Generation = counts.Generation
	w.status.PID, w.status.Usage, w.status.Limits = i.proc.pid(), usage, i.proc.limits()
	w.accept(t.bundle)
	w.mu.Unlock()
	w.pin()
	w.notify()
	w.log.Info("plugin is running", "plugin_version", t.bundle.manifest.Version, "pid", i.proc.pid())
	if old != nil {
		w.retire(old, w.cfg.DrainTimeout)
	}
}

// pause is the time until the next health check; plugins that started together
// are not to be asked together for ever.
func (w *worker) pause() time.Duration { return backoff.Jitter(w.cfg.HealthEvery, 0.1) }

// retire drains an instance that is not in charge any more.
func (w *worker) retire(i *instance, patience time.Duration) {
	w.mu.Lock()
	w.draining[i] = true
	w.mu.Unlock()
	w.work.Go(func() {
		i.drain(w.patient, patience, w.cfg.StopTimeout)
		w.mu.Lock()
		delete(w.draining, i)
		w.mu.Unlock()
		w.notify()
	})
}

// end stops what runs, because the files or the host are gone, or leaves it to
// another host.
func (w *worker) end() {
	defer w.left()
	leaving := w.leaving()
	if !leaving {
		w.rush()
	}
	if w.launch != nil {
		w.dismiss(w.launch)
	}
	i := w.current
	handed := leaving && i != nil && i.proc.adoptable() && w.leave(i)
	if i != nil && !handed {
		w.set(Draining, "")
		i.drain(w.patient, 0, w.cfg.StopTimeout)
		w.vacate()
	}
	if leaving {
		w.left()
	}
	w.work.Wait()
	w.rush()
	if !handed {
		w.set(Stopped, "")
	}
}

// dismiss ends a start under way at the end of the worker.
func (w *worker) dismiss(l *launch) {
	l.cancel()
	w.work.Go(func() {
		if r := <-l.landed; r.instance != nil {
			r.instance.drain(w.patient, 0, w.cfg.StopTimeout)
		}
	})
	for _, o := range l.orders {
		o.done <- fmt.Errorf("%w: %s is being stopped", ErrNotRunning, w.name)
	}
}
