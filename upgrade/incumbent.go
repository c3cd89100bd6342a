package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/failpoint"
)

// The names under which descriptors travel to a successor.
const (
	fileHandover = "perennial-handover"
	fileStdout   = "perennial-stdout"
	fileStderr   = "perennial-stderr"
	fileLog      = "perennial-log"
)

const (
	// commitTimeout bounds the time from commit to the successor's Ready.
	commitTimeout = 5 * time.Second
	// killTimeout bounds the wait for a killed successor.
	killTimeout = 5 * time.Second
)

// interrupted is the reason of what ends because the agent ends.
const interrupted = "interrupted: the agent was told to stop"

// failure is why a successor is not wanted.
type failure struct {
	class  Class
	reason string
	// ours is true where the release was never given its chance, so that it is
	// not quarantined whatever the class.
	ours bool
	// deaf is true of a successor that would not hear an abort.
	deaf bool
}

// trial is one successor as its incumbent sees it.
type trial struct {
	*Upgrader
	slot  Slot
	conn  net.Conn
	in    <-chan inbound
	quit  chan struct{}
	ended chan error // the result of tableflip's Upgrade: nil after Ready
	stdio *stdio
	tail  *logTail
	pid   int
	alive bool

	served    bool
	reported  bool // its health, and once probation is over since then
	unhealthy int
	failing   []string
}

// swap starts slot's executable on the sockets of this process, watches its
// probation and then either gives everything to it (ErrSuperseded) or takes
// everything back.
func (u *Upgrader) swap(ctx context.Context, slot Slot) error {
	select {
	case <-u.serving:
	case <-ctx.Done():
		return u.giveUp(Failed, failure{reason: interrupted}, nil)
	}
	if err := u.flip.WaitForParent(ctx); err != nil && ctx.Err() != nil {
		return u.giveUp(Failed, failure{reason: interrupted}, nil)
	}
	err := u.move(Starting, func(a *Attempt) { a.Deadline = time.Now().Add(u.cfg.StartTimeout).UTC() })
	if err != nil {
		return u.giveUp(Failed, failure{reason: err.Error()}, nil)
	}
	t := &trial{Upgrader: u, slot: slot, quit: make(chan struct{}), ended: make(chan error, 1)}
	if err := t.start(); err != nil {
		return t.rollBack(failure{class: BadEnvironment, reason: err.Error(), ours: true})
	}
	if f := t.watch(ctx); f != nil {
		return t.rollBack(*f)
	}
	return t.commit()
}

// start passes the descriptors to tableflip and starts the executable.
func (t *trial) start() (err error) {
	near, far, err := socketPair()
	if err != nil {
		return err
	}
	if t.conn, err = fileConn(near); err != nil {
		return errors.Join(err, far.Close())
	}
	if t.stdio, err = openStdio(); err != nil {
		return errors.Join(err, far.Close())
	}
	for name, f := range map[string]*os.File{fileHandover: far, fileStdout: t.stdio.out, fileStderr: t.stdio.err, fileLog: t.stdio.read} {
		err = errors.Join(err, t.flip.AddFile(name, f))
	}
	if err = errors.Join(err, far.Close()); err != nil {
		return err
	}
	if err := failpoint.Hit("start"); err != nil {
		return err
	}
	t.in = readFrames(t.conn, t.quit)
	t.tail = tailOf(t.stdio.read, t.stdio.err)
	if err := t.stdio.redirect(); err != nil {
		return err
	}
	// tableflip executes os.Args[0]; its contract leaves no other way.
	os.Args[0] = t.slot.binary()
	t.alive = true
	go func() { t.ended <- t.launch() }()
	offer := frame{
		Kind: kindOffer, Version: t.cfg.Version, PID: os.Getpid(),
		Attempt: &t.journal.last, Lease: t.cfg.Host.Lease(),
		ProbationMS: t.cfg.Probation.Milliseconds(),
	}
	return t.send(offer)
}

// launch runs tableflip's Upgrade, again where the executable was still
// open for writing in a process that another goroutine was just starting
// (golang/go#22315).
func (t *trial) launch() error {
	wait := backoff.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	for range 5 {
		err := t.flip.Upgrade()
		// tableflip keeps the text of the cause only.
		if err == nil || !strings.Contains(err.Error(), errTextBusy.Error()) {
			return err
		}
		_ = wait.Wait(context.Background())
	}
	return t.flip.Upgrade()
}

func (t *trial) send(f frame) error { return sendFrame(t.conn, f) }

// watch follows the successor until it may commit (nil) or has failed. It
// commits on a healthy report that arrives after its probation, so that
// neither one that never told its health nor one that has just hung does.
func (t *trial) watch(ctx context.Context) *failure {
	start := time.NewTimer(t.cfg.StartTimeout)
	defer start.Stop()
	silence := 5 * t.cfg.HealthEvery
	quiet := time.NewTimer(t.cfg.StartTimeout + silence)
	defer quiet.Stop()
	probation := time.NewTimer(time.Hour)
	probation.Stop()
	over := false
	for !over || !t.reported {
		select {
		case <-ctx.Done():
			return &failure{reason: interrupted}
		case err := <-t.ended:
			t.alive = false
			return t.died(err)
		case <-start.C:
			if !t.served {
				return &failure{class: BadBinary, deaf: true, reason: fmt.Sprintf("the successor did not serve within %v", t.cfg.StartTimeout)}
			}
		case <-quiet.C:
			return &failure{class: BadBinary, deaf: true, reason: fmt.Sprintf("the successor sent no health report for %v", silence)}
		case <-probation.C:
			// Only a report from now on tells that it still lives: one that
			// stopped a moment ago has been healthy to the end.
			over, t.reported = true, false
		case m := <-t.in:
			if m.err != nil {
				t.in = nil
				return t.hungUp(m.err)
			}
			quiet.Reset(silence)
			serves := m.frame.Kind == kindServing && !t.served
			if f := t.take(m.frame); f != nil {
				return f
			}
			if serves {
				probation.Reset(t.cfg.Probation)
			} else if !t.served {
				quiet.Reset(t.cfg.StartTimeout + silence)
			}
		}
	}
	if len(t.failing) > 0 {
		return t.sick("unhealthy at the end of its probation")
	}
	return nil
}

// take acts on one frame of the successor.
func (t *trial) take(f frame) *failure {
	switch f.Kind {
	case kindHello:
		t.pid = f.PID
		if err := t.stdio.restore(); err != nil {
			return &failure{class: BadEnvironment, reason: err.Error()}
		}
		if f.Version != t.slot.Version {
			return &failure{class: BadBinary, reason: fmt.Sprintf("the release is signed as %s, its executable says %s: build it with its version", t.slot.Version, f.Version)}
		}
	case kindServing:
		if t.served {
			return nil
		}
		t.served = true
		// The pause comes before its record: it leaves nothing behind, and the
		// disk need not stand between clients and the successor.
		if err := t.gate.pause(); err != nil {
			return &failure{class: BadEnvironment, reason: err.Error()}
		}
		deadline := time.Now().Add(t.cfg.Probation).UTC()
		if err := t.move(Probation, func(a *Attempt) { a.Deadline = deadline }); err != nil {
			return &failure{class: BadEnvironment, reason: err.Error()}
		}
	case kindHealth:
		t.failing, t.reported = f.Failing, true
		if len(f.Failing) == 0 {
			t.unhealthy = 0
			return nil
		}
		if t.unhealthy++; t.unhealthy >= t.cfg.UnhealthyAfter {
			return t.sick(fmt.Sprintf("unhealthy %d times in a row", t.unhealthy))
		}
	}
	return nil
}

// sick blames the environment where everything that fails in the successor
// fails in the incumbent too.
func (t *trial) sick(how string) *failure {
	f := &failure{class: BadBinary, reason: "the successor was " + how + ": " + strings.Join(t.failing, "; ")}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	mine := t.cfg.Host.Failing(ctx)
	if !slices.ContainsFunc(t.failing, func(check string) bool { return !failsIn(check, mine) }) {
		f.class = BadEnvironment
		f.reason += " (the incumbent fails these too)"
	}
	return f
}

// failsIn compares checks by name: "name: what is wrong".
func failsIn(check string, others []string) bool {
	name, _, _ := strings.Cut(check, ":")
	return slices.ContainsFunc(others, func(o string) bool {
		other, _, _ := strings.Cut(o, ":")
		return other == name
	})
}

// died explains the return of tableflip's Upgrade before commit.
func (t *trial) died(err error) *failure {
	if err == nil {
		return &failure{class: BadBinary, reason: "the successor took over before it was told to: it calls tableflip's Ready itself"}
	}
	f := &failure{class: BadBinary, reason: "the successor did not stay alive: " + strings.TrimPrefix(err.Error(), "tableflip: ")}
	if strings.Contains(f.reason, "signal: killed") {
		// No program does that to itself: the kernel out of memory, or
		// somebody.
		f.class = BadEnvironment
	}
	return f
}

// hungUp explains the end of the handover stream. A successor that dies
// takes the stream with it, so its death is waited for as the better reason.
func (t *trial) hungUp(err error) *failure {
	select {
	case end := <-t.ended:
		t.alive = false
		return t.died(end)
	case <-time.After(time.Second):
		return &failure{class: BadBinary, reason: "handover socket: " + err.Error()}
	}
}

// commit makes the release current and gives the host to the successor. The
// pointer moves first: a crash from here on boots a release that has passed.
func (t *trial) commit() error {
	if err := t.move(Committing, nil); err != nil {
		return t.rollBack(failure{class: BadEnvironment, reason: err.Error()})
	}
	if err := t.slots.prove(t.slot, time.Now()); err != nil {
		return t.undoCommit(failure{class: BadEnvironment, reason: err.Error()})
	}
	if err := t.send(frame{Kind: kindCommit}); err != nil {
		return t.undoCommit(failure{class: BadBinary, reason: "commit could not be sent: " + err.Error()})
	}
	timeout := time.NewTimer(commitTimeout)
	defer timeout.Stop()
	select {
	case err := <-t.ended:
		t.alive = false
		if err != nil {
			return t.undoCommit(*t.died(err))
		}
	case <-timeout.C:
		return t.undoCommit(failure{class: BadBinary, deaf: true, reason: fmt.Sprintf("the successor did not take over within %v of commit", commitTimeout)})
	}
	t.release()
	return ErrSuperseded
}

// undoCommit makes the running release current again.
func (t *trial) undoCommit(f failure) error {
	// Clients first, the files after.
	resumed := t.gate.resume()
	t.dismiss(f)
	old, err := t.slots.open(t.running.Name())
	if err == nil {
		err = t.slots.prove(old, time.Now())
	}
	t.slot.Proven = time.Time{}
	// It may have signed already.
	return errors.Join(t.rollBack(f), resumed, err, t.slot.save(), signLock(t.lock))
}

// rollBack resumes serving at once, makes sure that the successor is gone,
// and records why.
func (t *trial) rollBack(f failure) error {
	resumed := t.gate.resume()
	if t.stdio != nil {
		// What follows is this process's log, not the successor's.
		resumed = errors.Join(resumed, t.stdio.restore())
	}
	state := t.journal.last.State
	moved := t.move(RollingBack, func(a *Attempt) { a.Reason, a.Class = f.reason, f.class })
	t.dismiss(f)
	t.release()
	if f.class != "" && !f.ours {
		if err := t.quarantine.add(t.slot.Ref, f.class, f.reason, time.Now()); err != nil {
			t.log.Error("quarantine could not be written", "error", err)
		}
	}
	var lines []string
	if t.tail != nil {
		lines = t.tail.last()
	}
	t.log.Warn("rolled back", "to", t.running.Version, "from", t.slot.Version, "in", state, "reason", f.reason)
	return errors.Join(t.giveUp(RolledBack, f, lines), resumed, moved)
}

// giveUp records the end of the attempt and returns it as an error.
func (u *Upgrader) giveUp(end State, f failure, lines []string) error {
	err := u.move(end, func(a *Attempt) { a.Reason, a.Class, a.Log = f.reason, f.class, lines })
	return errors.Join(&Error{Op: "upgrade", Release: u.journal.last.To.Version, Err: errors.New(f.reason)}, err)
}

// dismiss ends a successor that is not wanted and waits for its end. One
// that can hear is told, so that it answers what it has accepted; it is
// killed when it takes too long.
func (t *trial) dismiss(f failure) {
	if !t.alive {
		return
	}
	patience := t.cfg.AbortTimeout
	if f.deaf {
		patience = time.Second
	}
	if t.conn != nil && t.send(frame{Kind: kindAbort, Reason: f.reason}) == nil && t.gone(patience) {
		return
	}
	if pid := findSuccessor(t.slot.binary(), t.pid); pid != 0 {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	if !t.gone(killTimeout) {
		t.log.Error("the successor could not be killed", "pid", t.pid)
	}
}

// gone waits for the end of the successor.
func (t *trial) gone(patience time.Duration) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case err := <-t.ended:
			t.log.Debug("the successor has ended", "error", err)
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

// release closes what this process holds of the trial. The log's reader
// ends with the last writer; a grandchild may keep it open, so the wait is
// bounded.
func (t *trial) release() {
	close(t.quit)
	if t.conn != nil {
		if err := t.conn.Close(); err != nil {
			t.log.Warn("handover socket", "error", err)
		}
	}
	if t.stdio == nil {
		return
	}
	err := t.stdio.restore()
	if t.tail != nil {
		select {
		case <-t.tail.done:
		case <-time.After(time.Second):
		}
	}
	if err := errors.Join(err, t.stdio.close()); err != nil {
		t.log.Warn("log capture", "error", err)
	}
}
