package agent

import (
	"context"
	"errors"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/upgrade"
)

const (
	// publishGap spaces writes, so that a burst of changes is one write.
	publishGap = 100 * time.Millisecond
	// publishEvery is the longest time between two writes.
	publishEvery = 60 * time.Second
)

// touch says that something published has changed.
func (a *Agent) touch() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// publish keeps registration, status and plugins in etcd up to date until
// ctx ends or another process takes the registration over.
func (a *Agent) publish(ctx context.Context) error {
	retry := backoff.Backoff{Max: 5 * time.Second}
	every := time.NewTimer(0)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.dirty:
		case <-every.C:
		}
		err := a.flush(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errFenced):
			if err := a.fenced(ctx); err != nil {
				return err
			}
		case err != nil:
			a.log.Warn("status not published", "error", err)
			if retry.Wait(ctx) != nil {
				return nil
			}
			a.touch()
			continue
		}
		retry.Reset()
		every.Reset(backoff.Jitter(publishEvery, 0.2))
		if backoff.Sleep(ctx, publishGap) != nil {
			return nil
		}
	}
}

// fenced is called when somebody else wrote the registration. A successor
// that has just committed may do so; then this process is told to end soon.
// Any other writer is met by registering again, which tells who it is.
func (a *Agent) fenced(ctx context.Context) error {
	if a.upgrader.Status().State == upgrade.Committing {
		_ = backoff.Sleep(ctx, time.Second) // its end is the caller's to see
		return nil
	}
	lease := a.session.Lease()
	if lease == 0 {
		return nil
	}
	err := a.registry.register(ctx, lease, a.Info())
	if errors.Is(err, ErrDuplicate) {
		return err
	}
	a.touch()
	return nil
}

// flush writes what is to be seen, once there is a registration to hang it
// on, and then takes away the order that the status has answered.
func (a *Agent) flush(ctx context.Context) error {
	lease := a.session.Lease()
	if lease == 0 || a.registry.leased() != lease {
		return nil // the session registers first and calls touch
	}
	status := a.status()
	if err := a.registry.write(ctx, a.Info(), status, a.pluginRecords()); err != nil {
		return err
	}
	return a.orders.acknowledge(ctx, status.Upgrade)
}

func (a *Agent) status() Status {
	_, latency, _ := a.session.LastBeat()
	s := Status{
		Schema: schema, At: time.Now().UTC(),
		Health: a.health.Report(), Upgrade: a.upgrader.Status(),
		HeartbeatLatency: latency.Seconds(),
	}
	s.OrderError, s.OrderErrorRevision = a.orders.lastError()
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
	var records []PluginRecord
	for _, p := range a.plugins.List() {
		records = append(records, PluginRecord{Schema: schema, Status: p})
	}
	return records
}
