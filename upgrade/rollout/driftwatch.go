package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade/release"
)

// DriftWatchConfig says what is compared, and who is told.
type DriftWatchConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// Fleet is the one whose plan accounts for differences; default DefaultFleet.
	Fleet string
	// Agents shows the agents; nil = Observe does.
	Agents Fleet
	// Label names an agent's environment; default EnvironmentLabel.
	Label string
	// NoConfig leaves configuration out, for those who may not read it.
	NoConfig bool
	// Executables tells the executables of a pinned release by platform, as in
	// Pin.Binaries, from its manifest: they take the place of what the pin says of
	// them, which stays where it fails. It is called when a pin has changed, one at a
	// time, and what has changed is compared once it has returned: it is to bound its
	// time. nil = pins are taken as they are.
	Executables func(release.Pin) (map[string]string, error)
	// Every is the least distance between two comparisons; default 5 s.
	Every time.Duration
	// Changed is called with each comparison that differs from the one before, and
	// with the first; never concurrently. It is the zero Drift once Observe has told
	// that the controller is not elected any more, or does not see the agents as they
	// are, and, where Observe shows them, while pins and plan may be old. Required.
	Changed func(Drift)
	// Stale is called with what keeps the comparison from being up to date, and
	// with nil once it is again. May be nil.
	Stale func(error)
	// Logger receives pins that cannot be used, once each; nil discards it.
	Logger *slog.Logger
}

// defaultDriftEvery is DriftWatchConfig.Every's: at 10,000 agents a comparison
// takes some ten milliseconds.
const defaultDriftEvery = 5 * time.Second

// sourceEtcd is the source of pins, documents and plan.
const sourceEtcd = "etcd"

// DriftWatch compares a fleet with its pins whenever either changes. Its methods
// may be called concurrently.
type DriftWatch struct {
	cfg   DriftWatchConfig
	keys  keys
	watch *etcdkv.Watch
	dirty chan struct{}

	mu    sync.Mutex
	known bool // the keys were read
	seen  bool // the members are known
	lost  bool // the controller that showed them is not elected any more
	in    DriftInput
	pins  map[string]Pin
	wrong map[string]string // what is wrong with a source, by its name

	published map[string]Document // of the goroutine in watch only
	told      error               // likewise of complain's
}

// NewDriftWatch checks cfg and starts nothing.
func NewDriftWatch(cfg DriftWatchConfig) (*DriftWatch, error) {
	k, err := newKeys(cfg.Root, cfg.Fleet)
	switch {
	case err != nil:
		return nil, fmt.Errorf("watch of drift: %w", err)
	case cfg.Client == nil || cfg.Changed == nil:
		return nil, errors.New("watch of drift: Client and Changed are required")
	}
	if cfg.Every <= 0 {
		cfg.Every = defaultDriftEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &DriftWatch{
		cfg: cfg, keys: k, dirty: make(chan struct{}, 1), pins: map[string]Pin{}, wrong: map[string]string{},
		published: map[string]Document{}, in: DriftInput{Label: cfg.Label, BadPins: map[string]string{}},
	}
	prefixes := []string{k.pin("")}
	if !cfg.NoConfig {
		prefixes = append(prefixes, k.published())
	}
	w.watch, err = etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: cfg.Client, Keys: []string{k.plan()}, Prefixes: prefixes,
		OnChange: w.take, OnError: func(err error) { w.complain(sourceEtcd, err); w.changed() }, Logger: cfg.Logger,
	})
	return w, err
}

// Run compares until ctx ends, whose error it returns. It can be called once.
func (w *DriftWatch) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	parts.Go(func() { _ = w.watch.Run(ctx) }) // these end with ctx
	if w.cfg.Agents != nil {
		parts.Go(func() {
			_ = w.cfg.Agents.Watch(ctx, w.members, func(err error) { w.complain("agents", err) })
		})
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	var last *Drift
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.dirty:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		d, ok := w.compare()
		if !ok { // what is missing is not to be waited for any longer than it takes
			pause.Reset(0)
			continue
		}
		pause.Reset(w.cfg.Every)
		if last == nil || !last.equal(&d) {
			w.cfg.Changed(d)
			last = &d
		}
	}
}

// Observe takes over what a controller sees, for ControllerConfig.Observe. It
// does not block. While the controller does not see the agents as they are, there
// is no comparison, as where it is not elected: the one before would pass for news.
func (w *DriftWatch) Observe(o Observation) {
	if !o.Elected || o.Blind {
		w.mu.Lock()
		w.in.Members, w.lost, w.seen = nil, w.seen || w.lost, false
		w.mu.Unlock()
		w.changed()
		return
	}
	if o.Snapshot.Revision > 0 { // else it has not seen the agents yet
		w.members(o.Snapshot)
	}
}

func (w *DriftWatch) members(s Snapshot) {
	w.mu.Lock()
	w.in.Members, w.seen, w.lost = s.Members, true, false
	if len(s.Apart) > 0 {
		w.in.Members = slices.Concat(s.Members, s.Apart)
	}
	w.mu.Unlock()
	w.changed()
}

func (w *DriftWatch) changed() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// compare compares what is known; false = not all is.
func (w *DriftWatch) compare() (Drift, bool) {
	w.mu.Lock()
	in := w.in
	in.Pins, in.BadPins = slices.Collect(maps.Values(w.pins)), maps.Clone(w.in.BadPins)
	ready, lost := w.known && w.seen, w.lost
	if w.cfg.Agents == nil && w.seen && w.wrong[sourceEtcd] != "" {
		ready, lost = false, true // pins that may be old
	}
	w.mu.Unlock()
	if !ready {
		return Drift{}, lost
	}
	d, err := Compare(in)
	w.complain("plan", err)
	return d, err == nil
}

// take reads a view of pins, documents and plan.
func (w *DriftWatch) take(v etcdkv.View) {
	for _, key := range v.Changed {
		if scope, ok := strings.CutPrefix(key, w.keys.published()); ok {
			if value, there := v.Values[key]; there {
				sum := sha256.Sum256(value.Data)
				w.published[scope] = Document{Revision: value.ModRevision, Digest: digestPrefix + hex.EncodeToString(sum[:])}
			} else {
				delete(w.published, scope)
			}
		}
	}
	pins, bad := w.changedPins(v)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known = true; !w.cfg.NoConfig {
		w.in.Documents = maps.Clone(w.published)
	}
	for _, key := range v.Changed {
		if environment, ok := strings.CutPrefix(key, w.keys.pin("")); ok {
			delete(w.pins, environment)
			delete(w.in.BadPins, environment)
		}
	}
	maps.Copy(w.pins, pins)
	maps.Copy(w.in.BadPins, bad)
	w.takePlan(v)
	w.changed()
}

// changedPins reads those that are new or others than before, and says why some
// cannot be used.
func (w *DriftWatch) changedPins(v etcdkv.View) (pins map[string]Pin, bad map[string]string) {
	pins, bad = map[string]Pin{}, map[string]string{}
	for _, key := range v.Changed {
		environment, ok := strings.CutPrefix(key, w.keys.pin(""))
		value, there := v.Values[key]
		if !ok || !there {
			continue
		}
		p, err := ParsePin(environment, value.Data)
		if err != nil {
			w.cfg.Logger.Warn("a pin cannot be used: the agents of its environment are compared with nothing", "key", key, "error", err)
			bad[environment] = err.Error()
			continue
		}
		if w.cfg.Executables != nil && !p.Release.IsZero() {
			found, err := w.cfg.Executables(p.Release)
			if err != nil {
				w.cfg.Logger.Warn("the executables of a pinned release are not known: those that the pin names are compared, if any", "key", key, "error", err)
			} else {
				p.Binaries = found
			}
		}
		pins[environment] = p
	}
	return pins, bad
}

// takePlan reads the plan. w.mu is held. One that cannot be read accounts for
// nothing.
func (w *DriftWatch) takePlan(v etcdkv.View) {
	if !slices.Contains(v.Changed, w.keys.plan()) {
		return
	}
	w.in.Plan = nil
	value, there := v.Values[w.keys.plan()]
	if !there {
		return
	}
	plan, err := ParsePlan(value.Data)
	if err != nil {
		w.cfg.Logger.Warn("the plan cannot be read: it accounts for no difference", "key", w.keys.plan(), "error", err)
		return
	}
	w.in.Plan = &plan
}

// complain tells what is wrong with one of the sources, or that nothing is.
func (w *DriftWatch) complain(source string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.wrong, source); err != nil {
		w.wrong[source] = err.Error()
	}
	var now error
	if len(w.wrong) > 0 {
		now = errors.New(strings.Join(slices.Sorted(maps.Values(w.wrong)), "; "))
	}
	if w.cfg.Stale != nil && fmt.Sprint(now) != fmt.Sprint(w.told) {
		w.told = now
		w.cfg.Stale(now)
	}
}

// equal reports whether d shows the same as other.
func (d *Drift) equal(other *Drift) bool {
	return slices.EqualFunc(d.Environments, other.Environments, func(a, b EnvironmentDrift) bool {
		return a.Environment == b.Environment && a.Expected == b.Expected && a.Status == b.Status &&
			maps.Equal(a.Agents, b.Agents) && maps.Equal(a.Actual, b.Actual)
	}) && slices.EqualFunc(d.Agents, other.Agents, func(a, b AgentDrift) bool {
		return a.ID == b.ID && a.Environment == b.Environment && a.Expected == b.Expected && a.Actual == b.Actual &&
			a.Status == b.Status && slices.Equal(a.Findings, b.Findings)
	})
}
