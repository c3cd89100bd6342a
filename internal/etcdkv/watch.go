package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
)

// maxRanges is the server's default limit of operations in a transaction,
// which is what the first step of a listing is.
const maxRanges = 128

// Defaults of a WatchConfig.
const (
	// DefaultCoalesce is the least distance between two views.
	DefaultCoalesce = 100 * time.Millisecond
	// DefaultMaxKeys and DefaultMaxBytes bound what a view may hold.
	DefaultMaxKeys  = 250_000
	DefaultMaxBytes = 256 << 20
)

// Whether a watch lives. A connection that is dead shows in its pings, and its
// watches are listed anew when another stands: what is asked for here is the
// rest, such as a watch that a restarted member of a cluster took over at a
// revision that does not exist yet. Each question costs etcd about as much as a
// heartbeat, so there are few.
const (
	quiet        = 75 * time.Second
	quietJitter  = 0.2
	questions    = 2 // that are not answered
	answerWithin = 10 * time.Second
)

// MaxSilence is the longest for which a Watch hears nothing before it lists
// anew. Where etcd answers it is less: one question, and its answer, after 90 s.
const MaxSilence = quiet + quiet/5 + questions*answerWithin

// ErrTooLarge is what OnError is told while etcd holds more than
// WatchConfig.MaxKeys or MaxBytes under what is watched.
var ErrTooLarge = errors.New("etcd holds more than this watch may take in")

// WatchConfig says what to watch and whom to tell.
type WatchConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Keys are exact keys, Prefixes all keys that begin with them. Together
	// 1 to 128; what another one covers is left out.
	Keys     []string
	Prefixes []string
	// OnChange is called with the first view, even if it is empty, and then
	// whenever a key was set or deleted; never concurrently. While it runs,
	// and for Coalesce after it began, further changes are folded into the next
	// view, so a slow OnChange skips states but never misses the last. View's
	// Folded and Waited tell it how far behind it is, and the log says so if
	// it takes longer than a second while changes wait. Required.
	OnChange func(View)
	// Coalesce is the least distance between the beginnings of two calls of
	// OnChange; default 100 ms, negative = none. The first change after a
	// pause is told at once.
	Coalesce time.Duration
	// MaxKeys and MaxBytes (keys and values together) bound what a view may
	// hold; default 250,000 and 256 MiB. Where etcd holds more, the last good
	// view stays, OnError is told ErrTooLarge once, and etcd is asked again
	// every minute at most until it holds less.
	MaxKeys, MaxBytes int
	// OnError is called, from the same goroutine as OnChange, with what keeps
	// the view from being up to date, for a status display, and with nil once
	// it is up to date again. The same again is not told again. Watch goes on
	// by itself. May be nil.
	OnError func(error)
	// Logger receives what is odd but handled; nil discards it.
	Logger *slog.Logger
}

// View is the state of the watched keys. With a single prefix or key it is
// the store's state at one revision. With several, the first view and those
// after a restart are; but between them each key or prefix is followed by
// itself, so that changes which one transaction made to several of them may
// show one after the other. What must change together belongs in one value.
type View struct {
	// Revision is the store's revision up to which the view holds every
	// change. It may hold later ones.
	Revision int64
	// reached is that of each of the keys and prefixes called names by itself; none
	// where there is one only.
	names   []string
	reached []int64
	// Cluster is the id of the cluster that this is from. One that was emptied
	// and started with the same members and token has the same.
	Cluster uint64
	// Reset: the store is not the one that the view before was of. It is
	// another cluster, or it went back in time, as after a restored backup or
	// a loss of its data.
	Reset bool
	// Values holds the keys that exist. It is the watch's own: read it before
	// OnChange returns, do not modify it. The Data in it may be kept, but not
	// modified.
	Values map[string]Value
	// Changed are the keys, sorted, that were set or deleted since the view
	// before; in the first view those that exist. After a compaction, a
	// restored backup or another cluster they are what really differs.
	Changed []string
	// Folded is how many changes were received since the view before that a
	// later change of the same key replaced before it could be told.
	Folded int
	// Waited is how long the oldest change in this view waited to be told. More than
	// Coalesce means that OnChange takes longer than changes leave it time.
	Waited time.Duration
}

// Reached is Revision of one of the watched keys or prefixes alone, which where
// others are quiet is ahead of it.
func (v View) Reached(name string) int64 {
	if i := slices.Index(v.names, name); i >= 0 {
		return max(v.Revision, v.reached[i])
	}
	return v.Revision
}

// Value is a key's value.
type Value struct {
	Data []byte
	// ModRevision and CreateRevision are the revisions of the last change
	// and of the key's creation.
	ModRevision, CreateRevision int64
	// Lease is the lease that the key hangs on; 0 = none.
	Lease int64
}

// Watch keeps a view of keys for ever: through partitions, compaction,
// leader loss, a restored backup and an exchanged cluster.
type Watch struct {
	cfg     WatchConfig
	started atomic.Bool
	life    life
	sign    chan struct{} // tells the one that asked that etcd was heard

	// listTimeout is how long each answer of a listing is waited for. Where
	// that was in vain it doubles, up to listTimeoutMax: an etcd that cannot
	// keep up would else spend its time on answers that nobody waits for.
	listTimeout, listTimeoutMax time.Duration
	// quiet, jittered, is how long nothing may be received before etcd is asked
	// for a sign of life, and answerWithin how long each of those that are asked
	// for may take before the watch is thought dead and listed anew.
	quiet, answerWithin time.Duration
	// spread is the time over which the watches of a fleet, which all broke
	// at the same moment, list anew. Those whose listing fails wait longer
	// each time, up to retryMax, or oversizeMax where there is too much.
	spread, retryMax, oversizeMax time.Duration
}

// NewWatch checks cfg and starts nothing.
func NewWatch(cfg WatchConfig) (*Watch, error) {
	if cfg.Client == nil {
		return nil, errors.New("etcd watch: WatchConfig.Client is nil")
	}
	if cfg.OnChange == nil {
		return nil, errors.New("etcd watch: WatchConfig.OnChange is nil")
	}
	n := len(cfg.Keys) + len(cfg.Prefixes)
	if n == 0 || n > maxRanges {
		return nil, fmt.Errorf("etcd watch: %d keys and prefixes: want 1 to %d", n, maxRanges)
	}
	if slices.Contains(cfg.Keys, "") || slices.Contains(cfg.Prefixes, "") {
		return nil, errors.New("etcd watch: an empty key or prefix: want a name")
	}
	if cfg.MaxKeys < 0 || cfg.MaxBytes < 0 {
		return nil, fmt.Errorf("etcd watch: MaxKeys %d, MaxBytes %d: want positive numbers, or 0 for the defaults", cfg.MaxKeys, cfg.MaxBytes)
	}
	cfg.Keys, cfg.Prefixes = disjoint(cfg.Keys, cfg.Prefixes)
	cfg.setDefaults()
	return &Watch{
		cfg:            cfg,
		sign:           make(chan struct{}, 1),
		listTimeout:    5 * time.Second,
		listTimeoutMax: 40 * time.Second,
		quiet:          quiet,
		answerWithin:   answerWithin,
		spread:         time.Second,
		retryMax:       5 * time.Second,
		oversizeMax:    time.Minute,
	}, nil
}

func (cfg *WatchConfig) setDefaults() {
	switch {
	case cfg.Coalesce == 0:
		cfg.Coalesce = DefaultCoalesce
	case cfg.Coalesce < 0:
		cfg.Coalesce = 0
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = DefaultMaxKeys
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}

// disjoint leaves out what another prefix covers: a key that two watches of
// the server see could go back to an older state when one of them lags.
func disjoint(keys, prefixes []string) (k, p []string) {
	covered := func(name string) bool {
		return slices.ContainsFunc(p, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	for _, prefix := range slices.Sorted(slices.Values(prefixes)) { // shorter ones come first
		if !covered(prefix) {
			p = append(p, prefix)
		}
	}
	for _, key := range keys {
		if !covered(key) && !slices.Contains(k, key) {
			k = append(k, key)
		}
	}
	return k, p
}

// Run keeps the view until ctx ends and returns its error. It can be called
// once.
func (w *Watch) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return errors.New("etcd watch: Run called twice")
	}
	var (
		last     *state
		report   = reporter{tell: w.cfg.OnError}
		patience = w.listTimeout
		retry    = backoff.Backoff{Min: w.spread, Max: w.retryMax}
		tooMuch  = backoff.Backoff{Min: w.spread, Max: w.oversizeMax}
	)
	for ctx.Err() == nil {
		lived := false
		next, err := w.list(ctx, patience)
		if errors.Is(err, context.DeadlineExceeded) {
			patience = min(2*patience, w.listTimeoutMax)
		}
		if err == nil {
			patience = w.listTimeout
			w.noteReset(last, next)
			began := time.Now()
			err = w.follow(ctx, next, next.since(last), report.good)
			last, lived = next, time.Since(began) > w.retryMax
		}
		if ctx.Err() != nil {
			break
		}
		w.life.restart(restartOf(err))
		countWatchRestart(w.cfg.Client, restartOf(err))
		w.cfg.Logger.Debug("etcd watch starts anew", "error", err)
		if !harmless(err) {
			report.bad(err)
		}
		switch {
		case errors.Is(err, errReconnected): // it has waited its turn already
		case errors.Is(err, ErrTooLarge):
			_ = tooMuch.Wait(ctx)
		case lived:
			// A watch that lived a while starts the waits anew; one that dies
			// at once again and again must not spin.
			retry.Reset()
			tooMuch.Reset()
			_ = backoff.Sleep(ctx, w.turn())
		default:
			_ = retry.Wait(ctx)
		}
	}
	return ctx.Err()
}

// turn is when, from now on, this watch lists anew after what has broken the
// watches of a whole fleet.
func (w *Watch) turn() time.Duration { return backoff.Jitter(w.spread/2, 1) }

// harmless tells what needs no report: the view is only as late as a listing
// takes, or the listing will tell.
func harmless(err error) bool {
	for _, cause := range []error{rpctypes.ErrCompacted, errReconnected, errGrown, errFlooded} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// noteReset logs what an operator will want to know happened.
func (w *Watch) noteReset(last, next *state) {
	switch {
	case last == nil:
	case last.cluster != next.cluster:
		w.cfg.Logger.Warn("etcd is another cluster now: its content replaces the view",
			"cluster", fmt.Sprintf("%x", next.cluster), "before", fmt.Sprintf("%x", last.cluster))
	case next.resets(last):
		w.cfg.Logger.Warn("etcd went back in time, as after a restored backup: its content replaces the view",
			"revision", next.listed, "before", last.latest())
	}
}

// reporter tells of each trouble once.
type reporter struct {
	tell func(error)
	last error
}

func (r *reporter) bad(err error) {
	known := r.last != nil && (r.last.Error() == err.Error() || errors.Is(r.last, ErrTooLarge) && errors.Is(err, ErrTooLarge))
	if !known {
		r.tell(err)
	}
	r.last = err
}

func (r *reporter) good() {
	if r.last != nil {
		r.tell(nil)
	}
	r.last = nil
}
