package upgrade

import "time"

// know takes note of the successor's pid, from the first who tells it.
func (t *trial) know(pid int) {
	if t.family.pid == 0 && pid != 0 {
		t.family.seen(pid)
	}
}

// executed has this process's own descriptors back once the successor has its.
func (t *trial) executed(pid int) *failure {
	t.know(pid)
	if err := t.stdio.restore(); err != nil {
		return &failure{class: BadEnvironment, reason: err.Error()}
	}
	return nil
}

// dismiss ends a successor that is not wanted, with all that it started, and
// waits for its end. One that can hear is told, so that it answers what it
// has accepted; it is killed when it takes too long.
func (t *trial) dismiss(f failure) {
	if t.family == nil {
		return
	}
	if t.alive {
		patience := t.cfg.AbortTimeout
		if f.deaf {
			patience = time.Second
		}
		if due := t.request.due; !due.IsZero() {
			patience = min(patience, max(time.Until(due)/2, 0)) // it is to be over by then
		}
		if t.send(frame{Kind: kindAbort, Reason: f.reason}) == nil {
			t.gone(patience)
		}
	}
	// Also where it ended by itself: what it started may hold the sockets.
	if left := t.family.end(killTimeout); left > 0 {
		t.attemptLog().Error("processes of the successor could not be killed", "pid", t.family.pid, "count", left)
	}
	if t.alive && !t.gone(killTimeout) {
		t.attemptLog().Error("the successor could not be killed", "pid", t.family.pid)
	}
}

// gone waits for the end of the successor.
func (t *trial) gone(patience time.Duration) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case err := <-t.ended:
			t.attemptLog().Debug("the successor has ended", "error", err)
			t.alive = false
			return true
		case _, open := <-t.in:
			// What it still says is of no interest, but it must not block.
			if !open {
				t.in = nil
			}
		case <-limit.C:
			return false
		}
	}
}

// findStarted sends the successor's pid once it is executed. Its descriptors
// 1 and 2 are its own then, and this process can have its own back.
func (t *trial) findStarted() <-chan int {
	started := make(chan int, 1)
	t.searching.Go(func() {
		// Most say hello sooner, and looking through all processes takes a
		// processor away from one that loads.
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			select {
			case <-t.quit:
				return
			case <-time.After(pause):
			}
			if pid := t.family.head(); pid != 0 {
				started <- pid
				return
			}
		}
	})
	return started
}
