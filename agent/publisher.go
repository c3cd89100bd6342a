package agent

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/perennial-go/perennial/internal/backoff"
)

const (
	// publishGap spaces writes, so that a burst of changes is one write.
	publishGap = 100 * time.Millisecond
	// statusEvery is the default of Config.StatusEvery.
	statusEvery = 60 * time.Second
)

// publisher knows what is to be published, and when.
type publisher struct {
	now, soon chan struct{}
}

func newPublisher() publisher {
	return publisher{make(chan struct{}, 1), make(chan struct{}, 1)}
}

// touch says that something published has changed that somebody waits for.
func (a *Agent) touch() { ring(a.publisher.now) }

// touchSoon says that something published has changed, perhaps for the whole
// fleet at once.
func (a *Agent) touchSoon() { ring(a.publisher.soon) }

// publish keeps registration, status and plugins in etcd up to date until
// ctx ends or another process takes the registration over.
func (p *presence) publish(ctx context.Context) error {
	retry := backoff.Backoff{Max: 5 * time.Second}
	if _, successor := p.upgrader.Inherited(); successor {
		p.touch() // somebody may be following the upgrade
	} else {
		p.touchSoon()
	}
	// Agents that were started together do not beat together.
	beat := time.NewTimer(spread(p.cfg.StatusEvery))
	defer beat.Stop()
	spreading := time.NewTimer(time.Hour)
	defer spreading.Stop()
	spreading.Stop()
	waiting, first, due, failing := false, true, false, ""
	defer p.pulses.publisher.Rest()
	for {
		p.pulses.publisher.Beat()
		select {
		case <-ctx.Done():
			return nil
		case <-p.publisher.soon:
			if !waiting {
				waiting = true
				spreading.Reset(spread(p.cfg.Spread))
			}
			continue
		case <-p.publisher.now:
		case <-spreading.C:
		case <-beat.C:
			due = true
		}
		waiting = false
		spreading.Stop()
		told, err := p.flush(ctx, due)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errFenced):
			p.pulses.publisher.Rest() // a claim takes as long as others' beats
			if err := p.fenced(ctx); err != nil {
				return err
			}
		case err != nil:
			if errors.Is(err, rpctypes.ErrLeaseNotFound) {
				p.session.Renew() // it registers under another, and calls touchSoon
			}
			if failing != err.Error() {
				failing = err.Error()
				p.log.Warn("status not published", "error", err)
			}
			if retry.Wait(ctx) != nil {
				return nil
			}
			p.touch()
			continue
		}
		failing = ""
		retry.Reset()
		if due || told && !first { // whose phase is random
			beat.Reset(backoff.Jitter(p.cfg.StatusEvery, 0.2))
		}
		first, due = first && !told && !due, due && !told
		if backoff.Sleep(ctx, publishGap) != nil {
			return nil
		}
	}
}

// status is how this agent fares, with all that is known.
func (a *Agent) status() Status {
	s := Status{
		Schema: schema, At: time.Now().UTC(), Every: a.cfg.StatusEvery.Seconds(),
		Health: a.health.Report(), Upgrade: a.upgrader.Status(),
	}
	if p := a.presence; p.session != nil {
		_, latency, _ := p.session.LastBeat()
		present := p.report()
		s.HeartbeatLatency, s.Presence = latency.Seconds(), &present
	}
	if a.orders != nil {
		s.OrderError, s.OrderErrorRevision = a.orders.lastError()
	}
	a.following.describe(&s)
	s.Responses = a.responder.told()
	if a.cfg.Settings != nil {
		c := a.cfg.Settings.Status()
		s.Config = &c
	}
	return s
}

func (a *Agent) pluginRecords() []PluginRecord {
	if a.plugins == nil {
		return nil
	}
	return a.pluginBook.records(a.plugins.List(), time.Now())
}
