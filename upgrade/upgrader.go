package upgrade

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/upgrade/release"
)

// scope names what the spans of this package come from.
const scope = "github.com/perennial-go/perennial/upgrade"

// Errors that Run ends with.
var (
	// ErrSuperseded: a successor has committed, and this process must drain
	// and end.
	ErrSuperseded = errors.New("superseded by a successor that has committed")
	// ErrAborted: this process was a successor and is not wanted.
	ErrAborted = errors.New("this successor's probation has ended")
)

// Upgrader replaces the running executable by another release under load.
// Open comes first, Serving when the host program serves, and Run owns all
// that changes; the other methods may be called concurrently.
type Upgrader struct {
	cfg    Config
	log    *slog.Logger
	client *release.Client
	gate   *gate

	// Set by Open, not changed afterwards.
	lock       *os.File
	flip       *tableflip.Upgrader // nil where the platform has no hot swap
	slots      slots
	journal    *journal
	quarantine quarantine
	running    Slot
	adoptable  string          // the executable to adopt once it serves; may be empty
	healthy    time.Time       // since when the host has been, while this is unsettled
	unsettled  bool            // this start is counted until the host is healthy
	stop       context.Context // of Open: it ends when the agent is told to stop
	opened     time.Time
	seen       outside       // what was published of it; Run's alone
	looked     chan struct{} // the index was looked at
	memory                   // of withdrawals; Run's alone
	origin     origin
	course     course // the attempt's trace
	resumed    resumption
	part       atomic.Pointer[string] // the traceparent of this process's part; see Trace
	dropped    string                 // the request of the state directory that was settled last; Run's alone
	handover   *handover              // non-nil in a successor

	active  chan struct{}
	serving chan struct{}
	// predecessor is closed once the process before this one has ended.
	predecessor chan struct{}
	once        sync.Once
	inHost      atomic.Bool // a call of cfg.State has not returned

	successor atomic.Int64           // see Successor
	counted   atomic.Pointer[totals] // the journal's, for metrics
	onTrial   atomic.Bool            // this is a successor that has not committed

	mu        sync.Mutex
	status    Status
	pending   *Request
	inHand    string          // id of the request that is performed; may be empty
	retracted bool            // what is performed was taken back
	starts    bool            // it is too late for that
	sockets   map[string]bool // those in use, by network and key
	activated activatedSockets
	// socketFiles are the files of Unix sockets that this process made.
	socketFiles map[string]fs.FileInfo
	// keptFiles are those of ListenWith, whoever made them.
	keptFiles map[string]fs.FileInfo
	wake      chan struct{}
	progress  time.Time
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Upgrader, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Upgrader{
		cfg:         cfg,
		log:         cfg.Logger,
		gate:        newGate(),
		course:      course{tracer: tracing.New(cfg.TracerProvider, scope)},
		active:      make(chan struct{}),
		serving:     make(chan struct{}),
		predecessor: make(chan struct{}),
		sockets:     map[string]bool{},
		wake:        make(chan struct{}, 1),
		looked:      make(chan struct{}, 1),
		socketFiles: map[string]fs.FileInfo{},
		keptFiles:   map[string]fs.FileInfo{},
	}, nil
}

// Inherited returns the etcd lease that a predecessor handed over. ok is
// false on a cold start.
func (u *Upgrader) Inherited() (lease int64, ok bool) {
	if u.handover == nil {
		return 0, false
	}
	return u.handover.offer.Lease, true
}

// Serving says that the host program has opened its listeners and serves.
// In a successor probation begins with it.
func (u *Upgrader) Serving() error {
	if u.handover != nil && u.handover.state != nil {
		return errors.New("upgrade: the incumbent's state waits: call Restore before Serving")
	}
	var err error
	u.once.Do(func() {
		err = u.adoptServing()
		u.reportUnclaimed()
		close(u.serving)
	})
	if err != nil {
		return err
	}
	if u.handover != nil {
		// A failed write shows as the end of the stream, which Run sees: this
		// process then goes on alone.
		_ = u.handover.send(frame{Kind: kindServing})
		return nil
	}
	if u.flip == nil {
		return nil
	}
	return u.flip.Ready()
}

// Active is closed once this process is the one in charge of the host:
// when Run begins on a cold start, at commit in a successor.
func (u *Upgrader) Active() <-chan struct{} { return u.active }

func (u *Upgrader) inCharge() bool {
	select {
	case <-u.active:
		return true
	default:
		return u.handover == nil
	}
}

// Successor is the pid of the process that has superseded this one, 0 while
// there is none.
func (u *Upgrader) Successor() int { return int(u.successor.Load()) }

// Predecessor is closed once Run has seen that the process before this one has
// ended; where there was none, soon after Run has begun.
func (u *Upgrader) Predecessor() <-chan struct{} { return u.predecessor }

// VerifyDocument checks the signature of a document that is no release, such as
// a plugin's manifest, by the keys that may sign releases for this host, and
// returns the id of the key; see release.VerifyOnHost. It may be called
// concurrently, also before Open.
func (u *Upgrader) VerifyDocument(message, signature []byte) (keyID string, err error) {
	return release.VerifyOnHost(filepath.Join(u.cfg.StateDir, trustFile), u.cfg.Trust, message, signature)
}

// Running is the release that this process executes.
func (u *Upgrader) Running() Ref { return u.running.Ref }

// Run performs requests one after the other until ctx ends, whose error it
// then returns. In a successor it sees the probation through first. It
// returns ErrSuperseded when another process has taken over, and ErrAborted
// in a successor that was told to go.
func (u *Upgrader) Run(ctx context.Context) error {
	defer u.cfg.Pulse.Rest()
	if u.handover != nil {
		u.cfg.Pulse.Rest() // the incumbent watches the probation
		if err := u.probation(ctx); err != nil {
			return err
		}
	}
	u.recall()
	u.publish(func(s *Status) { s.Attempt, s.Yanked = u.journal.last, u.yanked })
	close(u.active)
	u.collect()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() { u.awaitPredecessor(ctx) })
	looking, stop := context.WithCancel(ctx)
	defer stop()
	waiting.Go(func() { u.watch(looking) })
	// Where a swap or an earlier start counted, that is over.
	u.unsettled = u.unsettled || u.handover != nil
	look := time.NewTicker(u.cfg.HealthEvery)
	defer look.Stop()
	for {
		u.cfg.Pulse.Beat()
		if u.unsettled {
			u.settle(u.cfg.Host.Failing(ctx), time.Now())
		}
		select {
		case <-ctx.Done():
			if u.flip != nil {
				// Nobody else accepts, and nobody is to connect in vain while
				// this process drains: the sockets close.
				u.flip.Stop()
			}
			return ctx.Err()
		case <-look.C:
			if !u.notice() {
				continue
			}
		case <-u.wake:
		case <-u.looked:
			u.heard()
			continue
		}
		if err := u.next(ctx); errors.Is(err, ErrSuperseded) {
			return err
		}
	}
}

// awaitPredecessor notes when the process before this one has ended: until then
// tableflip starts no other, and what is asked for waits.
func (u *Upgrader) awaitPredecessor(ctx context.Context) {
	if u.flip != nil {
		err := u.flip.WaitForParent(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			u.log.Warn("the process before this one did not end well", "error", err)
		}
	}
	close(u.predecessor)
	u.nudge()
}

// alone reports whether the process before this one has ended.
func (u *Upgrader) alone() bool {
	select {
	case <-u.predecessor:
		return true
	default:
		return false
	}
}

// nudge has Run look at what waits.
func (u *Upgrader) nudge() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// next performs the request that waits.
func (u *Upgrader) next(ctx context.Context) error {
	r := u.newer()
	if r == nil || (r.Action.attempt() && !u.alone()) {
		return nil
	}
	if r = u.asked(); r == nil {
		r = u.take()
	}
	if r == nil {
		return nil
	}
	u.cfg.Pulse.Rest()
	err := u.perform(ctx, *r)
	u.cfg.Pulse.Beat()
	if err != nil && !errors.Is(err, ErrSuperseded) {
		u.log.Warn("request failed", "action", r.Action, "attempt", r.ID, "release", r.Pin.Version, "error", err)
	}
	if !errors.Is(err, ErrSuperseded) {
		u.collect()
	}
	return err
}

// Close gives the state directory back; call it last. Where this process is
// in charge, Unix sockets are unlinked.
func (u *Upgrader) Close() error {
	var err error
	// Of a successor that came to its end before Run saw it through.
	u.course.end(errors.New("this process ended before its part in the attempt had"))
	if u.flip != nil && u.inCharge() {
		// In a successor on probation this would unlink live sockets.
		u.flip.Stop()
		<-u.flip.Exit()
		u.unkeep()
	}
	if !u.inCharge() {
		u.unmake()
	}
	u.closeActivated()
	if u.handover != nil {
		err = u.handover.close()
	}
	if u.lock != nil {
		if u.stop.Err() != nil {
			u.Excuse()
		}
		err = errors.Join(err, u.lock.Close())
	}
	return err
}

// collect deletes the slots and downloads that nobody needs any more.
func (u *Upgrader) collect() {
	if err := removeStale(u.cfg.StateDir, downloadPrefix, downloadRetention); err != nil {
		u.log.Warn("abandoned downloads could not be removed", "error", err)
	}
	removed, err := u.slots.collect(u.needed(), u.cfg.Retention, u.cfg.RetentionBytes, time.Now())
	if err != nil {
		u.log.Warn("slots could not be collected", "error", err)
	}
	for _, name := range removed {
		u.log.Info("slot removed", "slot", name)
	}
}

// needed names the slots that collection must spare beside current: what this
// process runs, and what an attempt in progress comes from and leads to.
func (u *Upgrader) needed() []string {
	names := []string{u.running.Name()}
	for _, ref := range []Ref{u.journal.last.From, u.journal.last.To} {
		if !u.journal.last.State.Terminal() && len(ref.Binary) == sha256.Size*2 {
			names = append(names, slotName(ref))
		}
	}
	return names
}
