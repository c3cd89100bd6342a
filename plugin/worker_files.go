package plugin

import (
	"context"
	"fmt"
)

// finding is what a scan says about one plugin.
type finding struct {
	bundle  *bundle // nil if the files cannot be used
	problem error
	// pending means that the files may still be being written.
	pending bool
	// withdrawn means that what runs must not run any more.
	withdrawn bool
}

// offer hands over a finding; an older one not yet looked at is dropped, but
// not that what runs must not run. It has one caller, the scan.
func (w *worker) offer(f finding) {
	select {
	case old := <-w.findings:
		f.withdrawn = f.withdrawn || old.withdrawn && f.bundle == nil
	default:
	}
	w.findings <- f
}

// consider decides what a finding changes.
func (w *worker) consider(ctx context.Context, f finding) {
	w.last = f
	if a, off := w.disabled.get(w.name); off && !f.withdrawn {
		if f.bundle != nil {
			w.base, w.next = w.cfg.fresh(f.bundle), nil
			w.pin()
		}
		w.set(Disabled, a.String())
		return
	}
	switch {
	case f.withdrawn:
		w.withdraw(f.problem)
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
		w.renew(w.candidate(), f.bundle)
		if w.next == nil {
			w.remark("")
		}
	case w.current != nil && w.base.bundle.identity == f.bundle.identity:
		w.revert(f.bundle)
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
	w.abandon()
	t := w.cfg.fresh(b)
	if w.current != nil {
		w.next = t
	} else {
		w.base, w.next = t, nil
		w.remark("")
	}
	w.pin()
	w.start(ctx)
}

// renew takes note that the files of t were written again, or signed by another
// key, and are the same.
func (w *worker) renew(t *trial, b *bundle) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.accepted == t.bundle {
		w.accept(b)
	}
	t.bundle = b
}

// revert drops what was to replace b, whose files are back.
func (w *worker) revert(b *bundle) {
	if w.launch != nil && w.launch.trial == w.next {
		w.abandon()
	}
	w.next = nil
	w.renew(w.base, b)
	w.remark("")
}

// withdraw stops what must not run any more.
func (w *worker) withdraw(problem error) {
	w.abandon()
	w.retry.Stop()
	w.base, w.next = nil, nil
	w.remark("")
	if i := w.current; i != nil {
		w.count(problem.Error())
		w.vacate()
		w.retire(i, w.cfg.DrainTimeout)
	}
	w.set(Refused, problem.Error())
}
