package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
)

// offerTimeout bounds the wait for the incumbent's first frame.
const offerTimeout = 10 * time.Second

// handover is a successor's end of the handover socket.
type handover struct {
	mu    sync.Mutex // serialises frames
	conn  net.Conn
	in    <-chan inbound
	quit  chan struct{}
	once  sync.Once
	offer frame
	state []byte     // of the host, as long as it is not restored; may be nil
	files []*os.File // the real stdout and stderr
	group int        // the process group to come back to
}

func (h *handover) send(f frame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sendFrame(h.conn, f)
}

func (h *handover) close() error {
	var err error
	h.once.Do(func() {
		close(h.quit)
		err = h.conn.Close()
	})
	return err
}

// inherit makes this process a successor: it takes the handover socket, the
// lock and the log descriptors that the incumbent passed, and introduces
// itself.
func (u *Upgrader) inherit(ctx context.Context) error {
	group, err := standApart()
	if err != nil {
		return err
	}
	lock, err := u.passed(lockName)
	if err != nil {
		return err
	}
	u.lock = lock
	sock, err := u.passed(fileHandover)
	if err != nil {
		return err
	}
	conn, err := fileConn(sock)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("inherit"); err != nil {
		return err
	}
	h := &handover{conn: conn, quit: make(chan struct{}), group: group}
	h.in = readFrames(conn, h.quit)
	for _, name := range []string{fileStdout, fileStderr, fileLog} {
		f, err := u.passed(name)
		if err != nil {
			return err
		}
		h.files = append(h.files, f)
	}
	u.handover = h
	u.onTrial.Store(true)
	if err := h.greet(ctx, u.cfg.Version, u.cfg.State != nil); err != nil {
		return h.giveUp(ctx, fmt.Errorf("handover: %w", err))
	}
	u.traceSuccessor()
	if err := errors.Join(failpoint.Hit("greeted"), u.inheritState()); err != nil {
		u.course.end(err)
		return h.giveUp(ctx, err)
	}
	return nil
}

// greet takes the incumbent's offer, introduces this process and, if it
// wants it, takes the host's state.
func (h *handover) greet(ctx context.Context, version string, stateful bool) error {
	offer, err := h.next(ctx)
	if err != nil {
		return fmt.Errorf("no offer: %w", err)
	}
	if offer.Kind != kindOffer || offer.Attempt == nil {
		return fmt.Errorf("want an offer as the first frame, found %q: %s", offer.Kind, noPeer)
	}
	if s := offer.State; s != nil && (s.Size <= 0 || s.Size > stateLimit) {
		return fmt.Errorf("the offer announces %d bytes of the host's state, between 1 and %d are taken: upgrade through a release that hands over less", s.Size, stateLimit)
	}
	h.offer = offer
	stateful = stateful && offer.State != nil
	err = h.send(frame{Kind: kindHello, Version: version, PID: os.Getpid(), TakesState: stateful})
	if !stateful {
		// A failed write shows as the end of the stream: the incumbent has died,
		// and this process goes on alone.
		return nil //nolint:nilerr // see above
	}
	if err != nil {
		return err
	}
	return h.receiveState(ctx)
}

// inheritState finds the slot of this process. The journal stays the
// incumbent's until commit; it is only read here.
func (u *Upgrader) inheritState() error {
	if err := u.load(); err != nil {
		return err
	}
	exe, err := executablePath()
	if err != nil {
		return err
	}
	name, ok := u.slots.slotOf(exe)
	if !ok {
		return fmt.Errorf("this successor runs %s, which is no slot of %s", exe, u.cfg.StateDir)
	}
	u.running, err = u.slots.open(name)
	return err
}

// passed returns a descriptor that tableflip brought over.
func (u *Upgrader) passed(name string) (*os.File, error) {
	f, err := u.flip.File(name)
	if err == nil && f == nil {
		err = fmt.Errorf("the process that started this one passed no %s: it is not a Perennial agent; unset TABLEFLIP_HAS_PARENT_7DIU3", name)
	}
	return f, err
}

// probation reports health until the incumbent says commit. When the
// incumbent dies, this process finishes alone: somebody must hold the
// listening sockets.
func (u *Upgrader) probation(ctx context.Context) (err error) {
	defer func() { u.course.end(err) }()
	p := &selfWatch{Upgrader: u, in: u.handover.in, serving: u.serving}
	report := time.NewTicker(u.cfg.HealthEvery)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			if u.stop.Err() != nil {
				// Its end is to be blamed on nobody.
				_ = u.handover.send(frame{Kind: kindTrouble, Reason: "it was told to stop"})
			}
			return ctx.Err()
		case <-p.serving:
			p.serving, p.served = nil, time.Now()
			if err = failpoint.Hit("served"); err == nil {
				_, err = p.report(ctx)
			}
		case m := <-p.in:
			if m.frame.Kind == kindCommit && m.err == nil {
				u.queue(m.frame.Next, m.frame.NextHere)
				return u.takeOver("", m.frame.Paused)
			}
			if err = p.take(m); err == nil && m.frame.Kind == kindAsk {
				_, err = p.report(ctx)
			}
		case <-report.C:
			var done bool
			if done, err = p.report(ctx); done {
				return u.commitAlone(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// selfWatch is a successor on probation as it sees itself.
type selfWatch struct {
	*Upgrader
	in        <-chan inbound
	serving   <-chan struct{}
	served    time.Time // zero before it serves
	orphan    time.Time // when the incumbent died; zero while it lives
	unhealthy int
}

// take acts on what arrived on the handover socket, commit excepted.
func (p *selfWatch) take(m inbound) error {
	switch {
	case m.err != nil:
		p.in, p.orphan = nil, time.Now()
		return p.orphaned()
	case m.frame.Kind == kindAbort:
		return fmt.Errorf("%w: %s", ErrAborted, m.frame.Reason)
	default:
		return nil
	}
}

// report checks health and tells the incumbent. Alone, it decides: done
// means that the probation has been passed.
func (p *selfWatch) report(ctx context.Context) (done bool, err error) {
	alone := !p.orphan.IsZero()
	if p.served.IsZero() {
		if alone && time.Since(p.orphan) > p.cfg.StartTimeout {
			return false, p.loseAlone("it did not serve")
		}
		return false, nil
	}
	failing := p.cfg.Host.Failing(ctx)
	if len(failing) > 0 {
		p.unhealthy++
	} else {
		p.unhealthy = 0
	}
	if !alone {
		// A failed write shows as the end of the stream.
		_ = p.handover.send(frame{Kind: kindHealth, Failing: failing})
		return false, nil
	}
	over := time.Since(p.served) >= p.handover.offer.probation()
	if p.unhealthy >= p.cfg.UnhealthyAfter || (over && len(failing) > 0) {
		return false, p.loseAlone("it was unhealthy: " + strings.Join(failing, "; "))
	}
	return over, nil
}

// orphaned takes the journal and the log over from a dead incumbent.
func (u *Upgrader) orphaned() error {
	u.attemptLog().Warn("the incumbent ended during probation; the successor goes on alone")
	u.course.part.Event("the incumbent has ended")
	if err := u.inheritLog(); err != nil {
		return err
	}
	switch last := u.journal.last; {
	case last.State == RollingBack:
		u.blame(last)
		return errors.Join(fmt.Errorf("%w: the incumbent ended while it rolled back", ErrAborted), u.revert(), u.rolledBack(nil))
	case last.State.Terminal():
		return fmt.Errorf("%w: its attempt has ended as %s", ErrAborted, last.State)
	}
	return nil
}

// inheritLog returns to the real stdout and stderr and takes the journal
// and the lock's signature over.
func (u *Upgrader) inheritLog() error {
	out, stderr, log := u.handover.files[0], u.handover.files[1], u.handover.files[2]
	err := errors.Join(restoreStdio(out, stderr), out.Close(), stderr.Close())
	// What this process has started so far writes to the pipe that the
	// incumbent leaves: it must neither block there nor get SIGPIPE.
	go func() {
		_, _ = io.Copy(os.Stderr, log)
		_ = log.Close()
	}()
	if err := signLock(u.lock); err != nil {
		u.log.Warn("the lock does not tell this process's pid", "error", err)
	}
	return errors.Join(err, u.load())
}

// commitAlone does what the incumbent would have done at commit.
func (u *Upgrader) commitAlone(ctx context.Context) error {
	if err := <-u.beforeCommit(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrAborted, err), u.undo(err.Error()))
	}
	for _, next := range []State{Probation, Committing} {
		if transition(u.journal.last.State, next) != nil {
			continue
		}
		if err := u.move(next, nil); err != nil {
			return err
		}
	}
	u.running.Rollback = u.journal.last.comeback()
	if err := u.slots.prove(u.running, time.Now(), u.journal.last.Retain); err != nil {
		return err
	}
	u.origin.forget()
	return u.takeOver("the incumbent ended during probation, the successor finished it alone", time.Time{})
}

// loseAlone gives up a probation that nobody else watches. The service
// manager then boots current, which is still the release before.
func (u *Upgrader) loseAlone(why string) error {
	reason := "the incumbent ended during probation and the successor failed alone: " + why
	err := u.quarantine.add(u.running.Ref, BadBinary, reason, time.Now())
	return errors.Join(fmt.Errorf("%w: %s", ErrAborted, reason), err, u.undo(reason))
}

// takeOver makes this process the one in charge: current names it already.
// An empty reason means that the incumbent said commit and waits for Ready.
// paused is when the incumbent stopped to take connections, zero if that is not
// known.
func (u *Upgrader) takeOver(reason string, paused time.Time) error {
	u.course.enter(SpanTakeOver, nil)
	if err := failpoint.Hit("take-over"); err != nil {
		return err
	}
	if err := comeBack(u.handover.group); err != nil {
		return err
	}
	if reason == "" {
		if err := errors.Join(u.inheritLog(), failpoint.Hit("log-inherited")); err != nil {
			return err
		}
	}
	// Without an incumbent nobody reads this, and it does not matter: the
	// sockets are here.
	if err := u.flip.Ready(); err != nil && !isBrokenPipe(err) && reason == "" {
		return err
	}
	if err := failpoint.Hit("ready"); err != nil {
		return err
	}
	if !paused.IsZero() {
		pause := u.gate.readyAt().Sub(paused)
		u.count(func(t *totals) *totals { return t.paused(OutcomeCommitted, pause) })
	}
	u.onTrial.Store(false)
	// This process has the sockets and the other one drains: a full disk is no
	// reason to end now.
	if err := u.move(Committed, func(a *Attempt) { a.Reason = reason }); err != nil {
		u.attemptLog().Error("the commit could not be recorded; the next start does it", "error", err)
	}
	return failpoint.Hit("committed")
}
