package fleetsim_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// machine notes when what should take no time takes long, for nobody's fault but
// the machine's: a timer, a write that is to be on the disk, and one to etcd until
// a watch shows it. Agents wait for all of them before they begin.
type machine struct {
	mu   sync.Mutex
	lags []lag
}

type lag struct {
	at   time.Time
	took time.Duration
	what string
}

const (
	machineEvery = 100 * time.Millisecond
	// machineSlow is what is worth a note: from the mark's move until the controller
	// has seen an agent's end it is some ten such waits in turn, of timers, wake-ups
	// and answers, and all of them are late on a machine on which one is.
	machineSlow = deadline / 10
)

// echo measures until ctx ends how long it takes until etcd shows what was written.
func (m *machine) echo(ctx context.Context, c *clientv3.Client) error {
	shown := c.Watch(ctx, "/machine")
	ticks := time.NewTicker(machineEvery)
	defer ticks.Stop()
	for {
		began := time.Now()
		_, err := c.Put(ctx, "/machine", "")
		if err == nil {
			<-shown // closed when ctx ends
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		m.note(time.Now(), time.Since(began), "a write to etcd until it was shown")
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// watch measures until ctx ends; dir is on the disk of the agents' reports.
func (m *machine) watch(ctx context.Context, dir string) error {
	f, err := os.Create(filepath.Join(dir, "machine"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	ticks := time.NewTicker(machineEvery)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		began := time.Now()
		m.note(began, began.Sub(last)-machineEvery, "a timer")
		if _, err := f.WriteAt([]byte("x"), 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		last = time.Now()
		m.note(last, last.Sub(began), "a write to the disk")
	}
}

func (m *machine) note(at time.Time, took time.Duration, what string) {
	if took < machineSlow {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lags = append(m.lags, lag{at, took, what})
}

// worst is the longest since then; zero = nothing was slow.
func (m *machine) worst(since time.Time) (worst lag) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lags {
		if l.at.After(since) && l.took > worst.took {
			worst = l
		}
	}
	return worst
}
