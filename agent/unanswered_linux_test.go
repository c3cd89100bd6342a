package agent

import (
	"context"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestWriteWhoseAnswerWasLostIsKnownWhenItIsSeen: a fleet before an etcd that
// answers too late would otherwise blame somebody for its own writes, and write
// all its keys again.
func TestWriteWhoseAnswerWasLostIsKnownWhenItIsSeen(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	proxy := server.Proxy(t)
	direct := server.Client(t)
	p := present(t, proxy.URL())
	write(t, p)
	key := p.registry.keys.status(p.cfg.ID)
	revision := func() int64 {
		t.Helper()
		r, err := direct.Get(t.Context(), key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatal(r, err)
		}
		return r.Kvs[0].ModRevision
	}
	before := revision()
	proxy.FreezeWay(etcdtest.ToClient)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	flushed := make(chan error, 1)
	go func() {
		_, err := p.flush(ctx, true)
		flushed <- err
	}()
	waittest.Until(t, "etcd has the status", func() bool { return revision() > before })
	cancel()
	if err := waittest.Next(t, "the end of the write", flushed); err == nil {
		t.Fatal("the write was answered")
	}
	proxy.Heal()
	waittest.Until(t, "the agent knows what etcd has", func() bool {
		p.registry.mu.Lock()
		defer p.registry.mu.Unlock()
		return p.registry.held[key].revision == revision()
	})
	if r := p.report(); r.Restorations != 0 || r.Registrations != 1 {
		t.Errorf("%d restorations, %d registrations; want none but the first", r.Restorations, r.Registrations)
	}
	if p.registry.echo.behind(time.Now().Add(time.Hour)) != 0 {
		t.Error("the watch counts as behind")
	}
	write(t, p)
}
