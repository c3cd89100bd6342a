package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Errors of a Directory.
var (
	// ErrNotRegistered: no live agent has this id.
	ErrNotRegistered = errors.New("agent is not registered")
	// ErrExpired: the revision that a list is read at is no longer in etcd. List
	// again from the start.
	ErrExpired = errors.New("list has expired")
	// ErrReplaced: a newer order took the place of the one that is followed.
	ErrReplaced = errors.New("order was replaced by a newer one")
)

// Directory is the read side of the registry, and where orders are given.
// Its methods may be called concurrently.
type Directory struct {
	client *clientv3.Client
	keys   keys
	addr   string
}

// OpenDirectory connects to nothing yet; close it after use.
func OpenDirectory(cfg EtcdConfig) (*Directory, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("directory: Endpoints is missing: name at least one, such as http://127.0.0.1:2379")
	}
	if err := etcdkv.ValidRoot(cfg.Root); err != nil {
		return nil, fmt.Errorf("directory: Root: %w", err)
	}
	client, err := cfg.Dial()
	if err != nil {
		return nil, err
	}
	return &Directory{client: client, keys: newKeys(cfg.Root), addr: strings.Join(cfg.Endpoints, ",")}, nil
}

// Close ends the connection.
func (d *Directory) Close() error { return d.client.Close() }

// Get returns the agent called id, as it was at one revision. The error wraps
// ErrNotRegistered if no live agent has that id. Like List it waits for etcd.
func (d *Directory) Get(ctx context.Context, id string) (Entry, error) {
	if err := etcdkv.ValidID(id); err != nil {
		return Entry{}, err
	}
	found := newRoster(d.keys)
	r := reader{client: d.client}
	err := r.key(ctx, d.keys.registry(id), found)
	if err == nil {
		err = r.key(ctx, d.keys.status(id), found)
	}
	if err == nil {
		plugins := d.keys.plugin(id, "")
		err = r.each(ctx, plugins, clientv3.GetPrefixRangeEnd(plugins), new(pieceLimit), found.take)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("agent %s: etcd at %s: %w", id, d.addr, err)
	}
	e := found.entry(id)
	if e == nil {
		return Entry{}, unknownAgent(id)
	}
	return *e, nil
}

func unknownAgent(id string) error {
	return fmt.Errorf("no live agent called %s is in the registry: %w; list those there are (agentd fleet)", id, ErrNotRegistered)
}

// Watch keeps an Index and calls changed as Index.Watch does, until ctx ends,
// whose error it returns. It outlasts outages of etcd.
func (d *Directory) Watch(ctx context.Context, changed func(*Snapshot, Changes)) error {
	x, err := NewIndex(IndexConfig{Directory: d})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var run sync.WaitGroup
	defer run.Wait()
	defer stop()
	run.Go(func() { _ = x.Run(ctx) }) // it ends with ctx only
	return x.Watch(ctx, changed)
}
