package agent

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

//nolint:gochecknoglobals // flags
var (
	fleetSize   = flag.Int("fleet", 2000, "agents of the fleet that the index is tested with")
	benchAgents = flag.Int("benchfleet", 10_000, "agents of the fleet that is measured")
)

// crowd is a fleet that only a real etcd knows.
type crowd struct {
	testing.TB
	etcd   *etcdtest.Server
	client *clientv3.Client
	dir    *Directory
}

func newCrowd(tb testing.TB) *crowd {
	tb.Helper()
	etcd := etcdtest.Start(tb)
	return &crowd{tb, etcd, etcd.Client(tb), openDirectory(tb, etcd.URL())}
}

func openDirectory(tb testing.TB, url string) *Directory {
	tb.Helper()
	d, err := OpenDirectory(EtcdConfig{Endpoints: []string{url}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

func (c *crowd) put(pairs ...string) int64 {
	c.Helper()
	var ops []clientv3.Op
	for i := 0; i < len(pairs); i += 2 {
		ops = append(ops, clientv3.OpPut("/agents/"+pairs[i], pairs[i+1]))
	}
	res, err := c.client.Txn(c.Context()).Then(ops...).Commit()
	if err != nil {
		c.Fatal(err)
	}
	return res.Header.Revision
}

func (c *crowd) remove(keys ...string) {
	c.Helper()
	for _, key := range keys {
		if _, err := c.client.Delete(c.Context(), "/agents/"+key); err != nil {
			c.Fatal(err)
		}
	}
}

// registered and reported are what an agent like any other writes.
func registered(tb testing.TB, i int, version string) string {
	tb.Helper()
	return encoded(tb, Registration{
		Schema: schema, ID: crowdID(i), Instance: fmt.Sprintf("QX4R6N2M7HJSCWIYB3TGZL%04d", i), Version: version,
		ManifestDigest: "sha256:" + strings.Repeat("cd", 32), BinaryDigest: strings.Repeat("ab", 32), Revision: "4f2a9c1",
		BuildTime: "2026-11-21T09:00:00Z", Platform: "linux/amd64", Runtime: "go1.26.8",
		Labels: map[string]string{"env": "test", "zone": string('a' + rune(i%4)), "rack": fmt.Sprintf("r%03d", i/40)},
		Groups: []string{"web"}, Fleet: rollout.DefaultFleet, Host: fmt.Sprintf("host-%05d.example.com", i), PID: 1000 + i, Started: time.Unix(1e9, 0).UTC(),
		State: Event{State: Running, Reason: "serving", At: time.Unix(1e9, 0).UTC()},
	})
}

func reported(tb testing.TB, ready bool) string {
	tb.Helper()
	at := time.Unix(1e9, 0).UTC()
	s := Status{Schema: schema, At: at, HeartbeatLatency: 0.001, Config: &config.Status{Running: 7, Wanted: 7, Origin: "etcd"}}
	s.Health = health.Report{Schema: 1, At: at, Live: true, Ready: ready}
	for _, name := range []string{"registration", "plugins", "serving", "spool", "disk"} {
		s.Health.Checks = append(s.Health.Checks, health.CheckReport{Name: name, Kind: health.Readiness, OK: ready, Since: at, At: at})
	}
	s.Upgrade.Attempt = upgrade.Attempt{Schema: 1, State: upgrade.Idle}
	s.Upgrade.Running = upgrade.Ref{Version: "1.0.0", Binary: strings.Repeat("ab", 32)}
	return encoded(tb, s)
}

func encoded(tb testing.TB, value any) string {
	tb.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func crowdID(i int) string { return fmt.Sprintf("agent-%05d", i) }

// fill registers n agents.
func (c *crowd) fill(n int) {
	c.Helper()
	status := reported(c, true)
	for i := 0; i < n; {
		var pairs []string
		for ; i < n && len(pairs) < 120; i++ {
			pairs = append(pairs, "registry/"+crowdID(i), registered(c, i, "1.0.0"), "status/"+crowdID(i), status)
		}
		c.put(pairs...)
	}
}

// index runs one until the test ends.
func (c *crowd) index(cfg IndexConfig) *Index {
	c.Helper()
	cfg.Directory = c.dir
	x, err := NewIndex(cfg)
	if err != nil {
		c.Fatal(err)
	}
	ctx, stop := context.WithCancel(c.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = x.Run(ctx) })
	c.Cleanup(func() { stop(); run.Wait() })
	return x
}

func (c *crowd) ready(x *Index) {
	c.Helper()
	waittest.Next(c, "the index is ready", x.Ready())
}

// sees waits until the index is as ok says, and returns the snapshot that is.
func (c *crowd) sees(x *Index, what string, ok func(*Snapshot) bool) (s *Snapshot) {
	c.Helper()
	waittest.Until(c, "the index has "+what, func() bool { s = x.Snapshot(); return ok(s) })
	return s
}

// runs is for sees: the agent called id runs version.
func runs(id, version string) func(*Snapshot) bool {
	return func(s *Snapshot) bool { e := s.Get(id); return e != nil && e.Version == version }
}

func ids(entries []*Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return strings.Join(all, " ")
}

func selects(tb testing.TB, text string) Selector {
	tb.Helper()
	s, err := ParseSelector(text)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
