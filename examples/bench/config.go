package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/config"
)

const (
	configAgent = "bench-config"
	configRoot  = "/bench/"
	configKey   = configRoot + "config/agent/" + configAgent
	rawKey      = configRoot + "raw"
	// betweenPuts is the pause between a change of one key and of the other.
	// A store is told of changes of its key no more often than every 100 ms,
	// which is not what is to be measured, and keeps each on disk.
	betweenPuts = 75 * time.Millisecond
)

// document is the configuration that is changed.
type document struct {
	Number int    `yaml:"number"`
	Text   string `yaml:"text"`
}

func (d document) yaml() string { return fmt.Sprintf("number: %d\ntext: %s\n", d.Number, d.Text) }

// propagation is two followers of two keys, and what they have seen.
type propagation struct {
	writer     *clientv3.Client
	store, raw chan time.Time
}

// measureConfig changes two keys in turns: one that a config.Store follows
// and one that a plain watch follows.
func measureConfig(ctx context.Context, b *bench) (figure, error) {
	url, err := b.startEtcd(ctx)
	if err != nil {
		return figure{}, err
	}
	dir, err := b.path("config")
	if err != nil {
		return figure{}, err
	}
	var clients [3]*clientv3.Client
	for i := range clients {
		if clients[i], err = clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: startLimit, Logger: zap.NewNop()}); err != nil {
			return figure{}, err
		}
		defer func() { _ = clients[i].Close() }()
	}
	p := &propagation{writer: clients[0], store: make(chan time.Time, 1), raw: make(chan time.Time, 1)}
	store, err := config.New(config.Config[document]{
		Default: document{Number: -1},
	})
	if err != nil {
		return figure{}, err
	}
	all := func(d *document) document { return *d }
	if _, err := config.Sub(store, "bench", all, func(context.Context, document, document) error {
		p.store <- time.Now()
		return nil
	}); err != nil {
		return figure{}, err
	}
	source := config.Source{Client: clients[1], Root: configRoot, AgentID: configAgent, File: filepath.Join(dir, "config.json")}
	ctx, cancel := context.WithCancel(ctx)
	followers, ctx := errgroup.WithContext(ctx)
	followers.Go(func() error { return store.Run(ctx, source) })
	followers.Go(func() error { return p.runRaw(ctx, clients[2]) })
	f, err := p.measure(ctx, b.times(300, 30), store.Ready())
	cancel()
	if end := followers.Wait(); err == nil && !errors.Is(end, context.Canceled) {
		err = end
	}
	return f, err
}

func (p *propagation) runRaw(ctx context.Context, client *clientv3.Client) error {
	for res := range client.Watch(ctx, rawKey) {
		if err := res.Err(); err != nil {
			return err
		}
		p.raw <- time.Now()
	}
	return ctx.Err()
}

func (p *propagation) measure(ctx context.Context, n int, ready <-chan struct{}) (figure, error) {
	select {
	case <-ready:
		<-p.store // the first one is what was there
	case <-ctx.Done():
		return figure{}, ctx.Err()
	}
	store := &series{what: "config.Store: Put to subscriber", unit: "ms"}
	raw := &series{what: "raw watch: Put to event", unit: "ms"}
	write := &series{what: "of either: Put to its answer", unit: "ms"}
	tick := time.NewTicker(betweenPuts)
	defer tick.Stop()
	// The first turns open streams; they are not counted.
	const warm = 5
	for i := range warm + n {
		value := document{Number: i, Text: "as long as such a line may be in a real document"}.yaml()
		for _, turn := range []struct {
			key  string
			seen <-chan time.Time
			to   *series
		}{{configKey, p.store, store}, {rawKey, p.raw, raw}} {
			began := time.Now()
			if _, err := p.writer.Put(ctx, turn.key, value); err != nil {
				return figure{}, err
			}
			answered := time.Now()
			var seen time.Time
			select {
			case seen = <-turn.seen:
			case <-time.After(startLimit):
				return figure{}, fmt.Errorf("want a change of %s to be seen within %v, found none", turn.key, startLimit)
			case <-ctx.Done():
				return figure{}, context.Cause(ctx)
			}
			if i >= warm {
				turn.to.addTime(seen.Sub(began))
				write.addTime(answered.Sub(began))
			}
			<-tick.C
		}
	}
	return figure{
		Measures: measures(store, raw, write),
		Verdicts: []verdict{{What: "config.Store / raw watch, median", Unit: "×", Value: store.median() / raw.median()}},
	}, nil
}
