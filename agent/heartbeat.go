package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// sectionName is the part of the configuration that is the library's.
const sectionName = "perennial"

// settings is what that section sets for all agents that a document is for.
type settings struct {
	Heartbeat heartbeat `yaml:"heartbeat" doc:"how agents renew their registration"`
}

// section has the configuration set the heartbeat. A document that this agent
// cannot follow is refused like one that a subscriber refuses.
func (p *presence) section() config.Section {
	return config.Section{
		Name: sectionName,
		New:  func() any { return new(settings) },
		Apply: func(_ context.Context, value any) error {
			s, ok := value.(*settings)
			if !ok {
				return fmt.Errorf("section %s is a %T: want what New returned", sectionName, value)
			}
			return p.retime(s.Heartbeat)
		},
	}
}

// heartbeat is how an agent renews its lease. What is 0 is as the program says.
type heartbeat struct {
	TTL   time.Duration `yaml:"ttl" doc:"how long a registration outlives its agent: 1s to 1h"`
	Every time.Duration `yaml:"every" doc:"pause between two heartbeats: at least 500ms and at most half of ttl"`
}

// Bounds of what a document may ask of a whole fleet.
const (
	maxTTL   = time.Hour
	minEvery = 500 * time.Millisecond
)

// Validate says what no program could do.
func (h heartbeat) Validate() error {
	switch {
	case h.TTL != 0 && (h.TTL < time.Second || h.TTL > maxTTL):
		return fmt.Errorf("ttl is %v: want 1s to %v", h.TTL, maxTTL)
	case h.Every != 0 && (h.Every < minEvery || h.Every > maxTTL/2):
		return fmt.Errorf("every is %v: want %v to %v", h.Every, minEvery, maxTTL/2)
	case h.TTL != 0 && h.Every > h.TTL/2:
		return fmt.Errorf("every is %v with ttl %v: want at most half of it, so that one lost heartbeat does not lose the registration", h.Every, h.TTL)
	}
	return nil
}

// over returns h with what is not set taken from the program's configuration.
func (h heartbeat) over(cfg Config) (heartbeat, error) {
	ttl := h.TTL
	if ttl == 0 {
		ttl = cfg.TTL
	}
	every := h.Every
	if every == 0 {
		if every = cfg.HeartbeatEvery; every == 0 {
			every = min(etcdkv.DefaultInterval, ttl/3)
		}
		every = min(every, ttl/2) // of another TTL
	}
	if every > ttl/2 {
		return h, fmt.Errorf("perennial.heartbeat.every is %v, and this agent's TTL %v: want at most half of it; set perennial.heartbeat.ttl as well", every, ttl)
	}
	return heartbeat{ttl, every}, nil
}

// retime has the session renew as h says: at once, or, in a successor, when it
// is in charge, since the lease is its incumbent's until then.
func (p *presence) retime(h heartbeat) error {
	now, err := h.over(p.cfg)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = now
	if !p.inCharge() || p.upgrader.Successor() != 0 {
		return nil
	}
	p.touchSoon() // the registration tells the beat
	return p.session.Set(now.TTL, now.Every)
}

// takeBeat is retime when this process has come into charge.
func (p *presence) takeBeat() {
	p.mu.Lock()
	h := p.wanted
	p.mu.Unlock()
	if err := p.retime(h); err != nil {
		p.log.Warn("heartbeat unchanged", "error", err)
	}
}

// beat feeds the round trip to etcd into the health tree. The registration is
// thought lost once no renewal was answered for a TTL.
func (p *presence) beat(latency time.Duration, err error) {
	p.observeStaleness()
	p.metrics.beat(latency, err)
	if err == nil {
		p.health.Observe(health.HeartbeatLatency, latency.Seconds())
		p.silence.Lock()
		defer p.silence.Unlock()
		if !p.silence.since.IsZero() {
			p.log.Info("etcd answers again", "duration", time.Since(p.silence.since).Round(time.Millisecond))
			p.silence.since, p.silence.lapsed = time.Time{}, false
		}
		if lease := p.session.Lease(); lease != 0 && lease == p.registry.leased() && p.failure.Load() == nil {
			// The lease outlived the outage, and the registration with it.
			p.health.Set(conditionRegistration, nil)
		}
		return
	}
	p.health.Observe(health.HeartbeatLatency, math.Inf(1))
	p.hush(err)
}

// silence is an outage of etcd, as it is told in the log: once when it begins,
// once when the registration is thought lost, and once when it is over.
type silence struct {
	sync.Mutex
	since  time.Time // the last answer; zero = etcd answers
	lapsed bool
}

func (s *silence) begin(at time.Time) {
	s.Lock()
	defer s.Unlock()
	s.since = at
}

// hush is called with the heartbeat that failed, or with nil to see whether
// one that is still on its way has taken too long.
func (p *presence) hush(err error) {
	p.silence.Lock()
	defer p.silence.Unlock()
	at, _, _ := p.session.LastBeat()
	if at.IsZero() {
		return // the start has its own words
	}
	if err != nil && p.silence.since.IsZero() {
		p.silence.since = at
		p.log.Warn("etcd does not answer; the agent works on with what it has", "error", err)
	}
	ttl, _ := p.session.Timing()
	if time.Since(at) <= ttl {
		return
	}
	reason := "etcd has not answered for " + ttl.String()
	if err == nil {
		err = etcdkv.LastFailure(p.client)
	}
	if err != nil {
		reason += ": " + err.Error()
	}
	p.health.Set(conditionRegistration, errors.New(reason))
	if !p.silence.lapsed {
		p.silence.since, p.silence.lapsed = at, true
		p.log.Warn("not ready: the registration is thought lost", "error", reason)
	}
}

// untilLapse is when to look next whether the registration is thought lost.
func (p *presence) untilLapse() time.Duration {
	at, _, _ := p.session.LastBeat()
	ttl, _ := p.session.Timing()
	if left := ttl - time.Since(at); left > 0 {
		return left + time.Millisecond // the TTL itself is still in time
	}
	return min(staleEvery, ttl/2) // soon enough for what is answered meanwhile
}

// echoWithin is how long a write may take to come back on the watch before it
// counts for staleness.
const echoWithin = 10 * time.Second

// staleness returns how old what this process sees of etcd may be, by its own
// clock, and why; "" while that is no more than what is usual. A watch that hears
// nothing asks for a word, and what this process writes comes back on its watch:
// the latter is what a watch through a member that lags behind, or on a stream
// that died without a word, does not give. Before the watch, and in a successor
// on probation, the answers to renewals are what there is.
func (p *presence) staleness(now time.Time) (time.Duration, string) {
	var heard time.Time
	usual, what := staleAfter, "nothing was heard on the watch"
	if w := p.watch.Load(); w != nil {
		heard = w.Heard()
	}
	if heard.IsZero() {
		heard, _, _ = p.session.LastBeat()
		usual, _ = p.session.Timing()
		what = "no heartbeat was answered"
	}
	if heard.IsZero() {
		return 0, "" // what there is was not seen in etcd yet
	}
	age := max(now.Sub(heard), 0)
	if behind := p.registry.echo.behind(now); age <= usual && behind > echoWithin {
		age, usual, what = behind, echoWithin, "the watch has not shown what this agent wrote"
	}
	if age <= usual {
		return age, ""
	}
	return age, fmt.Sprintf("%s for %v", what, age.Round(time.Second))
}

func (p *presence) observeStaleness() {
	stale, _ := p.staleness(time.Now())
	p.health.Observe(health.EtcdStale, stale.Seconds())
}

// staleAfter leaves a watch the time to notice its own silence and to list anew:
// the alert is of what it cannot mend. The default rule of EtcdStale says the
// same.
const staleAfter = etcdkv.MaxSilence + 10*time.Second

// heard is when etcd was last heard; zero = never.
func (p *presence) heard() time.Time {
	at, _, _ := p.session.LastBeat()
	if w := p.watch.Load(); w != nil {
		if heard := w.Heard(); heard.After(at) {
			at = heard
		}
	}
	return at
}

// report is what the status tells of the presence.
func (p *presence) report() Presence {
	ttl, every := p.session.Timing()
	stale, why := p.staleness(time.Now())
	_, _, err := p.session.LastBeat()
	c := p.session.Counters()
	r := Presence{
		TTL: ttl.Seconds(), HeartbeatEvery: every.Seconds(),
		EtcdHeard: p.heard().UTC(), StaleSeconds: stale.Seconds(), Stale: why,
		LeasesGranted: c.Granted, LeasesResumed: c.Resumed, LeasesExchanged: c.Exchanged,
		LeasesLost: c.Lost, LeasesRefused: c.Refused,
		Registrations: p.registry.count.Load(),
	}
	if err != nil {
		r.HeartbeatError = err.Error()
	}
	p.mu.Lock()
	r.Restorations, r.LastRestored = p.restored.count, p.restored.last
	p.mu.Unlock()
	return r
}
