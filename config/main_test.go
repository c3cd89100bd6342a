package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	Host    string
	Port    uint16
	Timeout time.Duration
}

type settings struct {
	Server server
	Tags   []string
	Labels map[string]string
	Limit  *int
}

func defaults() settings {
	return settings{
		Server: server{Host: "localhost", Port: 80, Timeout: time.Second},
		Tags:   []string{"default"},
		Labels: map[string]string{"from": "default"},
	}
}

// rig is a store that runs against an etcd, as agent a1 of groups web and eu.
type rig struct {
	*config.Store[settings]
	src    config.Source
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	changes []settings
}

func newRig(t *testing.T, client *clientv3.Client, file string) *rig {
	t.Helper()
	return newImpatientRig(t, client, file, waittest.Patience)
}

// newImpatientRig waits only for timeout for etcd's first answer.
func newImpatientRig(t *testing.T, client *clientv3.Client, file string, timeout time.Duration) *rig {
	t.Helper()
	r := &rig{
		src:  config.Source{Client: client, AgentID: "a1", Groups: []string{"web", "eu"}, File: file},
		done: make(chan error, 1),
	}
	store, err := config.New(config.Config[settings]{
		Default: defaults(),
		Validate: func(s *settings) error {
			if s.Server.Port == 0 {
				return errors.New("server.port is 0: want a port")
			}
			return nil
		},
		MaxBytes:    10_000,
		LoadTimeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Store = store
	_, err = config.Sub(store, "rig", func(s *settings) settings { return *s }, func(_ context.Context, _, s settings) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the store and waits for its first configuration; stop, or the
// test's end, joins it.
func (r *rig) start(t *testing.T) {
	t.Helper()
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(t.Context())
	go func() { r.done <- r.Run(ctx, r.src) }()
	t.Cleanup(func() { r.stop(t) })
	select {
	case <-r.Ready():
	case err := <-r.done:
		r.cancel = nil
		t.Fatalf("Run ended before the first configuration: %v", err)
	case <-time.After(waittest.Patience):
		t.Fatalf("no first configuration within %s: %+v", waittest.Patience, r.Status())
	}
}

func (r *rig) stop(t *testing.T) {
	t.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if err := waittest.Next(t, "Run returns", r.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: want only the end of its context, got %v", err)
	}
}

// fails runs the store and returns what Run failed with.
func (r *rig) fails(t *testing.T) error {
	t.Helper()
	err := r.Run(t.Context(), r.src)
	if !errors.Is(err, config.ErrNoConfig) {
		t.Fatalf("Run: want ErrNoConfig, got %v", err)
	}
	return err
}

// keepsFile waits for the last-known-good file.
func (r *rig) keepsFile(t *testing.T) {
	t.Helper()
	waittest.Until(t, "the file is kept", func() bool { _, err := os.Stat(r.src.File); return err == nil })
}

// runs waits for a revision to be in force.
func (r *rig) runs(t *testing.T, revision int64) {
	t.Helper()
	waittest.Until(t, fmt.Sprintf("revision %d in force", revision), func() bool { return r.Snapshot().Revision == revision })
}

func publish(t *testing.T, c *clientv3.Client, scope, document string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	revision, err := config.Put(ctx, c, "", scope, []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// putRaw writes what Put would refuse, as somebody with etcdctl would.
func putRaw(t *testing.T, c *clientv3.Client, key, document string) int64 {
	t.Helper()
	r, err := c.Put(t.Context(), key, document)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func goodFile(t *testing.T) string { return filepath.Join(t.TempDir(), "config.json") }
