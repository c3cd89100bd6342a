package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/tableflip"
)

// Config describes how one host's agent is upgraded. The zero value of each
// field is its documented default; StateDir, Name and Version are required.
type Config struct {
	// StateDir holds slots, current and the journal; it is made with mode
	// 0700 if it is missing. One running agent owns it.
	StateDir string
	// Name is the name that releases of this program are signed for.
	Name string
	// Version is the SemVer version of the running executable.
	Version string

	// Source is where releases come from; nil refuses upgrades.
	Source Source
	// Trust holds the keys that may sign releases.
	Trust Trust
	// Policy limits which releases may follow the running one.
	Policy Policy
	// PluginAPI and ConfigSchema are the versions that a release's requires
	// are checked against; empty fails any constraint on them.
	PluginAPI, ConfigSchema string

	// StartTimeout bounds the time from the start of a successor until it
	// serves; default 30 s.
	StartTimeout time.Duration
	// Probation is how long a successor serves before it is trusted;
	// default 30 s.
	Probation time.Duration
	// HealthEvery is the pause between a successor's health reports;
	// default 1 s. No report for five times as long is a failure.
	HealthEvery time.Duration
	// UnhealthyAfter is how many unhealthy reports in a row end a
	// probation; default 3.
	UnhealthyAfter int
	// AbortTimeout is how long a successor that failed may take to answer
	// the requests that it has accepted before it is killed; default 10 s.
	AbortTimeout time.Duration
	// Retention is how long a replaced release is kept; default 72 h.
	Retention time.Duration

	// Host is the program that is upgraded; nil is one that is always
	// healthy and compatible.
	Host Host
	// Logger receives the log; nil discards it.
	Logger *slog.Logger
}

// Host is what an Upgrader needs to know of the program that it upgrades.
// Its methods are called from one goroutine at a time.
type Host interface {
	// Failing names the health checks that fail now, none when all is well.
	Failing(ctx context.Context) []string
	// Compatible returns why version must not run here, nil if it may.
	Compatible(version string) error
	// Lease is the etcd lease to hand to a successor, 0 for none.
	Lease() int64
	// Changed is told every new status. It must not block.
	Changed(Status)
}

type quietHost struct{}

func (quietHost) Failing(context.Context) []string { return nil }
func (quietHost) Compatible(string) error          { return nil }
func (quietHost) Lease() int64                     { return 0 }
func (quietHost) Changed(Status)                   {}

// Errors that Run ends with.
var (
	// ErrSuperseded: a successor has committed, and this process must drain
	// and end.
	ErrSuperseded = errors.New("superseded by a successor that has committed")
	// ErrAborted: this process was a successor and is not wanted.
	ErrAborted = errors.New("this successor's probation has ended")
)

// Request asks for the release that pin names.
type Request struct {
	// ID tells this request from others; it comes back in Status.
	ID string
	// By is who asks, for the record.
	By  string
	Pin Pin
	// Expect is the version that must be running; empty for any.
	Expect string
}

// Upgrader replaces the running executable by another release under load.
// Open comes first, Serving when the host program serves, and Run owns all
// that changes; the other methods may be called concurrently.
type Upgrader struct {
	cfg    Config
	log    *slog.Logger
	client *Client
	gate   *gate

	// Set by Open, not changed afterwards.
	lock       *os.File
	flip       *tableflip.Upgrader // nil where the platform has no hot swap
	slots      slots
	journal    *journal
	quarantine *quarantine
	running    Slot
	adoptable  string    // the executable to adopt once it serves; may be empty
	handover   *handover // non-nil in a successor

	active  chan struct{}
	serving chan struct{}
	once    sync.Once

	mu        sync.Mutex
	status    Status
	pending   *Request
	listening map[string]int // listeners by network and address
	wake      chan struct{}
	progress  time.Time
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Upgrader, error) {
	if cfg.StateDir == "" || cfg.Name == "" {
		return nil, errors.New("upgrade: StateDir and Name are required")
	}
	if _, err := ParseVersion(cfg.Version); err != nil {
		return nil, fmt.Errorf("upgrade: version of the running program: %w", err)
	}
	setDefault(&cfg.StartTimeout, 30*time.Second)
	setDefault(&cfg.Probation, 30*time.Second)
	setDefault(&cfg.HealthEvery, time.Second)
	setDefault(&cfg.UnhealthyAfter, 3)
	setDefault(&cfg.AbortTimeout, 10*time.Second)
	setDefault(&cfg.Retention, 72*time.Hour)
	if cfg.Host == nil {
		cfg.Host = quietHost{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Upgrader{
		cfg:       cfg,
		log:       cfg.Logger,
		gate:      newGate(),
		active:    make(chan struct{}),
		serving:   make(chan struct{}),
		listening: map[string]int{},
		wake:      make(chan struct{}, 1),
	}, nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Open takes the state directory, settles what an interrupted attempt left,
// and finds out whether this process is a successor. On a cold start it may
// replace this process by the current release and then does not return. It
// may be called once a process.
//
// Errors: ErrLocked if another agent runs on the directory.
func (u *Upgrader) Open(ctx context.Context) (err error) {
	if err := u.openState(); err != nil {
		return err
	}
	u.flip, err = tableflip.New(tableflip.Options{
		// The probation is ours to end; this only has to be longer.
		UpgradeTimeout: u.cfg.StartTimeout + u.cfg.Probation + time.Minute,
	})
	if errors.Is(err, tableflip.ErrNotSupported) {
		u.flip, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("tableflip: %w", err)
	}
	if u.flip != nil && u.flip.HasParent() {
		return u.inherit(ctx)
	}
	if u.lock, err = lockState(u.cfg.StateDir); err != nil {
		return err
	}
	if err := u.load(); err != nil {
		return err
	}
	if err := u.boot(); err != nil {
		return err
	}
	if u.flip != nil {
		if err := u.flip.AddFile(lockName, u.lock); err != nil {
			return err
		}
	}
	if err := signLock(u.lock); err != nil {
		u.log.Warn("the lock does not tell this process's pid", "error", err)
	}
	return nil
}

func (u *Upgrader) openState() error {
	if err := os.MkdirAll(u.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("state directory cannot be made: %w; give the agent's user a directory of its own", err)
	}
	dir, err := filepath.Abs(u.cfg.StateDir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return err
	}
	u.cfg.StateDir, u.slots = dir, slots{dir}
	if u.cfg.Source == nil {
		return nil
	}
	u.client, err = NewClient(ClientConfig{
		Source:    u.cfg.Source,
		Trust:     u.cfg.Trust,
		Name:      u.cfg.Name,
		StateFile: filepath.Join(dir, "trust.json"),
	})
	return err
}

// load reads what the state directory holds about attempts.
func (u *Upgrader) load() (err error) {
	if u.journal, err = openJournal(u.cfg.StateDir); err != nil {
		return err
	}
	u.quarantine, err = openQuarantine(u.cfg.StateDir)
	return err
}

// Listen returns the listener that a predecessor handed over for network
// and addr, or a new one. TCP and Unix stream sockets can be handed over.
// Several with one address, such as with port 0, are handed over in the
// order in which they were asked for.
// Its Accept waits while a successor is on probation. Call it before
// Serving.
func (u *Upgrader) Listen(network, addr string) (net.Listener, error) {
	if u.lock == nil {
		return nil, errors.New("upgrade: Listen before Open")
	}
	if u.flip == nil {
		return net.Listen(network, addr)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	name := u.listenerName(network, addr)
	ln, err := u.flip.ListenWithCallback(network, name, func(network, _ string) (net.Listener, error) {
		return net.Listen(network, addr)
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s %s: %w", network, addr, err)
	}
	u.listening[network+" "+addr]++
	d, ok := ln.(deadliner)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: want a stream socket that can be handed over: %w", network, ErrNotSupported), ln.Close())
	}
	return u.gate.wrap(d), nil
}

// listenerName is what a listener travels under to a successor. Several may
// be asked for with one address that ends in port 0: they are told apart by
// the order of the calls, which successor and incumbent share.
func (u *Upgrader) listenerName(network, addr string) string {
	if n := u.listening[network+" "+addr]; n > 0 && !strings.HasPrefix(network, "unix") {
		return fmt.Sprintf("%s#%d", addr, n+1)
	}
	return addr
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
	var err error
	u.once.Do(func() {
		err = u.adoptRunning()
		close(u.serving)
	})
	if err != nil {
		return err
	}
	if u.handover != nil {
		return u.handover.send(frame{Kind: kindServing})
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

// Running is the release that this process executes.
func (u *Upgrader) Running() Ref { return u.running.Ref }

// Request puts r in line. A request that waits already is replaced: the
// newest wins.
func (u *Upgrader) Request(r Request) {
	u.mu.Lock()
	u.pending = &r
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (u *Upgrader) take() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.pending
	u.pending = nil
	return r
}

// Run performs requests one after the other until ctx ends, whose error it
// then returns. In a successor it sees the probation through first. It
// returns ErrSuperseded when another process has taken over, and ErrAborted
// in a successor that was told to go.
func (u *Upgrader) Run(ctx context.Context) error {
	if u.handover != nil {
		if err := u.probation(ctx); err != nil {
			return err
		}
	}
	u.publish(func(s *Status) { s.Attempt = u.journal.last })
	close(u.active)
	u.collect()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.wake:
			r := u.take()
			if r == nil {
				continue
			}
			if err := u.upgrade(ctx, *r); errors.Is(err, ErrSuperseded) {
				return err
			} else if err != nil {
				u.log.Warn("upgrade failed", "to", r.Pin.String(), "order", r.ID, "error", err)
			}
			u.collect()
		}
	}
}

// Close gives the state directory back; call it last. Where this process is
// in charge, Unix sockets are unlinked.
func (u *Upgrader) Close() error {
	var err error
	if u.flip != nil && u.inCharge() {
		// In a successor on probation this would unlink live sockets.
		u.flip.Stop()
		<-u.flip.Exit()
	}
	if u.handover != nil {
		err = u.handover.close()
	}
	if u.lock != nil {
		err = errors.Join(err, u.lock.Close())
	}
	return err
}

// collect deletes the slots and downloads that nobody needs any more.
func (u *Upgrader) collect() {
	if err := removeStale(u.cfg.StateDir, downloadPrefix, downloadRetention); err != nil {
		u.log.Warn("abandoned downloads could not be removed", "error", err)
	}
	removed, err := u.slots.collect(u.running.Name(), u.cfg.Retention, time.Now())
	if err != nil {
		u.log.Warn("slots could not be collected", "error", err)
	}
	for _, name := range removed {
		u.log.Info("slot removed", "slot", name)
	}
}
