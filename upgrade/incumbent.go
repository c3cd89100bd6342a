package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
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

// spent is the reason of what is refused once a successor has called
// tableflip's Ready unasked, for tableflip then counts this process as
// replaced.
const spent = "this process can start no successor any more, because one took over before it was told to: restart the agent, then ask again"

// failure is why a successor is not wanted.
type failure struct {
	class  Class
	reason string
	// ours is true where the release was never given its chance, so that it is
	// not quarantined whatever the class.
	ours bool
	// deaf is true of a successor that would not hear an abort.
	deaf bool
	// dead is true of a successor that ended by itself.
	dead bool
	// recall is the id of the request that asked for this; the release is not to
	// blame.
	recall string
	// label is true where the manifest is wrong about the executable, which
	// may be a good one under another.
	label bool
}

// blamed is what of ref is quarantined for the failure.
func (f *failure) blamed(ref Ref) Ref {
	if f.label && ref.Manifest != "" {
		ref.Binary = ""
	}
	return ref
}

// trial is one successor as its incumbent sees it.
type trial struct {
	*Upgrader
	request Request
	refused string // the id of a request that may not end this
	slot    Slot
	conn    net.Conn
	far     net.Conn // the successor's end
	in      <-chan inbound
	quit    chan struct{}
	ended   chan error // the result of tableflip's Upgrade: nil after Ready
	state   []byte     // of the host, for the successor; may be empty
	sent    chan error // why the state could not be sent
	// sending is that of the state; it ends with conn.
	sending sync.WaitGroup
	stdio   *stdio
	tail    *logTail
	alive   bool
	lived   time.Time // the successor's last sign of life
	paused  time.Time // when this process stopped to take connections; zero = it has not
	trusted time.Time // when the probation is over that was asked for

	family    *family
	started   <-chan int // its pid, once it is executed
	searching sync.WaitGroup

	greeted   bool
	served    bool
	reported  bool // its health, and once probation is over since then
	unhealthy int
	failing   []string
	trouble   string // why it cannot go on, as it said
}

// swap starts slot's executable on the sockets of this process, watches its
// probation and then either gives everything to it (ErrSuperseded) or takes
// everything back. bounded ends when it is too late to begin for what r allows.
func (u *Upgrader) swap(ctx, bounded context.Context, r Request, slot Slot) error {
	select {
	case <-u.serving:
	case <-ctx.Done():
		return u.giveUp(failure{reason: interrupted})
	}
	select {
	case <-u.flip.Exit():
		return u.giveUp(failure{reason: spent})
	default:
	}
	if err := failpoint.Hit("staged"); err != nil {
		return u.giveUp(failure{reason: err.Error()})
	}
	u.countStart(slot.Ref)
	_, err := u.record(Starting, func(a *Attempt) { a.Reason, a.Deadline = "", time.Now().Add(u.cfg.StartTimeout).UTC() })
	if err != nil {
		return u.giveUp(failure{reason: err.Error()})
	}
	t := &trial{Upgrader: u, request: r, slot: slot, quit: make(chan struct{}), ended: make(chan error, 1), sent: make(chan error, 1)}
	err = t.begin(bounded)
	u.report() // the successor loads meanwhile
	if err != nil {
		return t.rollBack(ctx, failure{class: BadEnvironment, reason: endedBy(ctx, bounded, err).Error(), ours: true}, nil)
	}
	if f := t.watch(ctx); f != nil {
		return t.rollBack(ctx, *f, nil)
	}
	return t.commit(ctx)
}

// begin lets the host program prepare and starts the successor.
func (t *trial) begin(ctx context.Context) error {
	if err := failpoint.Hit("starting"); err != nil {
		return err
	}
	if err := t.beforeStart(ctx); err != nil {
		return err
	}
	var err error
	if t.state, err = t.saveState(ctx); err != nil {
		return err
	}
	return t.start()
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
	t.family, err = newFamily(t.slot.binary(), far)
	for name, f := range map[string]*os.File{fileHandover: far, fileStdout: t.stdio.out, fileStderr: t.stdio.err, fileLog: t.stdio.read} {
		err = errors.Join(err, t.flip.AddFile(name, f))
	}
	// fileConn closes far; the copy that stays here lets hearOut end the stream.
	end, failed := fileConn(far)
	t.far = end
	if err = errors.Join(err, failed); err != nil {
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
	t.started = t.findStarted()
	offer := frame{
		Kind: kindOffer, Version: t.cfg.Version, PID: os.Getpid(),
		Attempt: &t.journal.last, Lease: t.cfg.Host.Lease(),
		ProbationMS: t.cfg.Probation.Milliseconds(),
		Activated:   t.activated.names(),
	}
	if len(t.state) > 0 {
		offer.State = &hostState{Size: int64(len(t.state))}
	}
	return errors.Join(failpoint.Hit("launched"), t.send(offer), failpoint.Hit("offered"))
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
	quiet := time.NewTimer(t.cfg.StartTimeout + t.cfg.SilentAfter)
	defer quiet.Stop()
	probation := time.NewTimer(time.Hour)
	probation.Stop()
	due, stopDue := t.due()
	defer stopDue()
	look := time.NewTicker(t.cfg.HealthEvery)
	defer look.Stop()
	over := false
	var ready <-chan error // the hook before commit has ended
	for !over || !t.reported {
		var f *failure
		select {
		case <-ctx.Done():
			f = &failure{reason: interrupted}
		case <-t.wake:
			f = t.attend()
		case <-look.C: // a request may lie in the state directory
			f = t.attend()
		case <-due:
			f = &failure{reason: fmt.Sprintf("given up: it was to have ended within %v", t.request.GiveUp)}
		case err := <-t.ended:
			t.alive, t.lived = false, time.Now()
			f = t.died(err)
		case err := <-t.sent:
			f = &failure{class: BadBinary, deaf: true, reason: err.Error()}
		case pid := <-t.started:
			f = t.executed(pid)
		case <-start.C:
			if !t.served {
				f = t.silent(fmt.Sprintf("the successor did not serve within %v", t.cfg.StartTimeout))
			}
		case <-quiet.C:
			f = t.silent(fmt.Sprintf("the successor sent no health report for %v", t.cfg.SilentAfter))
		case <-probation.C:
			if left := t.extension(); left > 0 {
				probation.Reset(min(left, t.cfg.HealthEvery))
			} else {
				ready = t.beforeCommit(ctx)
			}
		case err := <-ready:
			if err != nil {
				f = &failure{class: BadEnvironment, ours: true, reason: err.Error()}
				break
			}
			// Only a report from now on tells that it still lives: one that
			// stopped a moment ago has been healthy to the end.
			over, ready, t.reported = true, nil, false
			// A successor of an older release does not know the question and
			// reports when its time comes.
			_ = t.send(frame{Kind: kindAsk})
		case m := <-t.in:
			f = t.hear(m, probation, quiet)
		}
		if f != nil {
			return f
		}
	}
	if len(t.failing) > 0 {
		return t.sick("unhealthy at the end of its probation")
	}
	return nil
}

// hear acts on what has come from the successor, and sets the timers that it
// begins.
func (t *trial) hear(m inbound, probation, quiet *time.Timer) *failure {
	t.lived = time.Now()
	if m.err != nil {
		t.in = nil
		return t.hungUp(m.err)
	}
	serves := m.frame.Kind == kindServing && !t.served
	if f := t.take(m.frame); f != nil {
		return f
	}
	if serves {
		probation.Reset(t.cfg.Probation)
	}
	// Only now: a slow disk in take is not the successor's silence.
	silence := t.cfg.SilentAfter
	if !t.served {
		silence += t.cfg.StartTimeout
	}
	quiet.Reset(silence)
	return nil
}

// take acts on one frame of the successor.
func (t *trial) take(f frame) *failure {
	if !t.greeted && (f.Kind == kindServing || f.Kind == kindHealth) {
		return &failure{class: BadBinary, reason: "the successor did not say who it is before it said " + f.Kind}
	}
	switch f.Kind {
	case kindHello:
		return t.meet(f)
	case kindFailed:
		return gaveUp(f)
	case kindServing:
		if t.served {
			return nil
		}
		t.served = true
		return t.yield()
	case kindTrouble:
		t.trouble = f.Reason
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

// meet takes the successor's word of who it is, and sends it the host's state
// if it asks for it.
func (t *trial) meet(f frame) *failure {
	t.family.told(f.PID)
	err := failpoint.Hit("hello")
	if err == nil {
		err = t.stdio.restore()
	}
	if err != nil {
		return &failure{class: BadEnvironment, reason: err.Error(), ours: true}
	}
	if f.Version != t.slot.Version {
		return &failure{class: BadBinary, label: true, reason: fmt.Sprintf("the release is signed as %s, its executable says %s: build it with its version", t.slot.Version, f.Version)}
	}
	if f.TakesState && len(t.state) > 0 && !t.greeted {
		t.sending.Go(t.sendState)
	}
	t.greeted = true
	return nil
}

// yield leaves accepting to the successor, which serves. The pause comes
// before its record: it leaves nothing behind, and the disk need not stand
// between clients and the successor.
func (t *trial) yield() *failure {
	t.trusted = time.Now().Add(t.probationFor(t.request))
	err := failpoint.Hit("serving")
	if err == nil {
		t.paused = time.Now()
		err = t.gate.pause()
	}
	if err == nil {
		err = failpoint.Hit("paused")
	}
	if err == nil {
		err = t.move(Probation, func(a *Attempt) { a.Deadline = t.trusted.UTC() })
	}
	if err == nil {
		err = failpoint.Hit("probation")
	}
	if err != nil {
		return &failure{class: BadEnvironment, reason: err.Error()}
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
