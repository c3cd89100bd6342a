package agent

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
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
		Groups: []string{"web"}, Host: fmt.Sprintf("host-%05d.example.com", i), PID: 1000 + i, Started: time.Unix(1e9, 0).UTC(),
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

func TestIndexOfAFleetTellsWhichAgentChangedAndEqualsTheList(t *testing.T) {
	t.Parallel()
	c, n := newCrowd(t), *fleetSize
	c.fill(n)
	x := c.index(IndexConfig{})
	type told struct {
		s *Snapshot
		c Changes
	}
	calls := make(chan told, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Watch(ctx, func(s *Snapshot, c Changes) { calls <- told{s, c} }) }()
	first := waittest.Next(t, "the first snapshot", calls)
	if len(first.c.Added) != n || first.s.Len() != n {
		t.Fatalf("%d of %d agents, %d added", first.s.Len(), n, len(first.c.Added))
	}
	// One transaction, as agents write: it may show in two steps.
	c.put("registry/"+crowdID(7), registered(t, 7, "1.1.0"), "status/"+crowdID(7), reported(t, false))
	var seen Changes
	for last := first.s; !runs(crowdID(7), "1.1.0")(last) || last.Get(crowdID(7)).Status.Health.Ready; {
		next := waittest.Next(t, "the change", calls)
		last, seen.Changed = next.s, append(seen.Changed, next.c.Changed...)
		if len(next.c.Added)+len(next.c.Removed) > 0 {
			t.Errorf("a change of one adds %d and removes %d", len(next.c.Added), len(next.c.Removed))
		}
	}
	for _, e := range seen.Changed {
		if e.ID != crowdID(7) {
			t.Errorf("a change of %s shows as one of %s", crowdID(7), e.ID)
		}
	}
	if first.s.Get(crowdID(7)).Version != "1.0.0" {
		t.Error("a snapshot changed in the hands of its reader")
	}
	c.remove("status/"+crowdID(8), "registry/"+crowdID(8))
	for gone := false; !gone; {
		next := waittest.Next(t, "that an agent has left", calls)
		gone = ids(next.c.Removed) == crowdID(8)
	}
	stop()
	if err := waittest.Next(t, "the end of the watch", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
	page, err := c.dir.List(t.Context(), ListOptions{Selector: selects(t, "zone in (a,b),.version<1.1")})
	if err != nil {
		t.Fatal(err)
	}
	indexed := x.Snapshot().List(selects(t, "zone in (a,b),.version<1.1"))
	if len(page.Entries) != n/2-1 || len(indexed) != len(page.Entries) { // one has left
		t.Fatalf("%d listed, %d indexed, want %d", len(page.Entries), len(indexed), n/2-1)
	}
	for i := range indexed {
		if encoded(t, indexed[i]) != encoded(t, &page.Entries[i]) {
			t.Fatalf("indexed %+v, listed %+v", indexed[i], page.Entries[i])
		}
	}
}

func TestReadersOfTheIndexSeeOneMomentEachWhileItChanges(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	const pairs = 20
	// Two agents in one transaction always run the same version.
	write := func(version string) {
		var all []string
		for i := range pairs {
			all = append(all, "registry/"+crowdID(i), registered(t, i, version))
		}
		c.put(all...)
	}
	write("1.0.0")
	x := c.index(IndexConfig{Coalesce: -1})
	c.ready(x)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				s := x.Snapshot()
				for _, e := range s.List(Selector{}) {
					if s.Len() != pairs || e.Version != s.Get(crowdID(0)).Version {
						t.Errorf("at revision %d: %d agents, %s runs %s", s.Revision(), s.Len(), e.ID, e.Version)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	for i := range 50 {
		write(fmt.Sprintf("1.0.%d", i+1))
	}
	c.sees(x, "the last version", runs(crowdID(3), "1.0.50"))
	close(stop)
	readers.Wait()
}

func TestIndexIsRightAgainAfterItMissedChangesThatWereCompacted(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(3)
	proxy := c.etcd.Proxy(t)
	c.dir = openDirectory(t, proxy.URL())
	x := c.index(IndexConfig{})
	c.ready(x)
	before := x.Snapshot()
	proxy.Cut()
	c.remove("registry/"+crowdID(0), "status/"+crowdID(0), "registry/"+crowdID(2), "status/"+crowdID(2))
	now := c.put("registry/"+crowdID(1), registered(t, 1, "2.0.0"), "registry/new", `{"schema":1,"id":"new"}`)
	if _, err := c.client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	proxy.Heal()
	d := c.sees(x, "the agent that came", func(s *Snapshot) bool { return s.Get("new") != nil }).Since(before)
	if ids(d.Added) != "new" || ids(d.Changed) != crowdID(1) || ids(d.Removed) != crowdID(0)+" "+crowdID(2) {
		t.Errorf("added %s, changed %s, removed %s", ids(d.Added), ids(d.Changed), ids(d.Removed))
	}
	if before.Len() != 3 || before.Get(crowdID(1)).Status == nil {
		t.Error("an earlier snapshot changed")
	}
}

func TestIndexTellsThatEtcdIsAwayAndIsReadyWhenItIsBack(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(1)
	c.etcd.Stop()
	errs := make(chan error, 100)
	x := c.index(IndexConfig{OnError: func(err error) { errs <- err }})
	if err := waittest.Next(t, "the outage is told", errs); err == nil || x.Err() == nil || x.Snapshot().Len() != 0 {
		t.Errorf("an outage is told as %v and %v", err, x.Err())
	}
	c.etcd.Restart()
	c.ready(x)
	if x.Snapshot().Len() != 1 {
		t.Errorf("ready with %d agents", x.Snapshot().Len())
	}
	waittest.Until(t, "the end of the outage is told", func() bool { return x.Err() == nil })
}

// hostile is what anybody who may write to etcd can leave there.
func (c *crowd) hostile() {
	for key, value := range map[string]string{
		"registry/../../x":                     `{"schema":1}`,
		"registry/" + strings.Repeat("x", 1e5): `{"schema":1}`,
		"registry/\x1b[31m\xff":                `{"schema":1}`,
		"registry/":                            `{"schema":1}`,
		"registry/ä":                           "\x00\x01",
		"plugins/no-plugin":                    `{"schema":1}`,
		"plugins/good/../x":                    `{"schema":1}`,
		"status/ghost":                         `{"schema":1}`,
		"registry/binary":                      "\x00\x01\xff\x1b[2J",
		"registry/empty":                       "",
		"registry/null":                        "null",
		"registry/newer":                       `{"schema":2,"id":"newer"}`,
		"registry/types":                       `{"schema":1,"id":"types","pid":"many"}`,
		"registry/liar":                        `{"schema":1,"id":"good","version":"9.9.9"}`,
		"registry/nameless":                    `{"schema":1,"version":"9.9.9"}`,
		"registry/deep":                        `{"schema":1,"id":"deep","labels":` + strings.Repeat("[", 1e5) + `}`,
		"registry/good":                        `{"schema":1,"id":"good","version":"1.0.0"}`,
		"status/good":                          `{"schema":1,"order_error":"` + strings.Repeat("x", 1_400_000) + `"}`,
		"plugins/good/p1":                      `{"schema":1,"name":"p1"}`,
		"plugins/good/p2":                      `[]`,
	} {
		c.put(key, value)
	}
}

// log collects what is logged.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestHostileKeysAndValuesAreToldOnceAndHideNoAgent(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.hostile()
	l := &log{}
	x := c.index(IndexConfig{Logger: slog.New(slog.NewTextHandler(l, nil))})
	c.ready(x)
	s := x.Snapshot()
	want := "binary deep empty good liar nameless newer null types"
	page, err := c.dir.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range page.Entries {
		e := &page.Entries[i]
		if other := s.Get(e.ID); other == nil || encoded(t, other) != encoded(t, e) {
			t.Errorf("listed %+v, indexed %+v", e, other)
		}
		if e.Error == "" || len(e.Error) > 1000 || strings.ContainsAny(e.Error, "\x00\x1b\n") {
			t.Errorf("%s: error %q", e.ID, e.Error)
		}
		if e.ID != "good" && e.Version != "" {
			t.Errorf("%s has the version %s", e.ID, e.Version)
		}
	}
	if got := ids(s.List(Selector{})); got != want || len(page.Entries) != 9 {
		t.Errorf("indexed %s, %d listed, want %s", got, len(page.Entries), want)
	}
	good := s.Get("good")
	if good.Version != "1.0.0" || len(good.Plugins) != 1 || good.Status != nil || !strings.Contains(good.Error, "at most 1048576") || !strings.Contains(good.Error, "plugins/good/p2") {
		t.Errorf("%+v", good)
	}
	strays := s.Strays()
	if strays.Count != 8 || !slices.Contains(strays.Examples, "ghost has keys and no registration") || page.Strays.Count != 5 {
		t.Errorf("strays: %+v, listed %+v", strays, page.Strays)
	}
	for _, example := range slices.Concat(strays.Examples, page.Strays.Examples) {
		if len(example) > 500 || strings.ContainsFunc(example, func(r rune) bool { return r < ' ' }) {
			t.Errorf("an example is not fit for a terminal: %q", example)
		}
	}
	// What stays wrong is not told again.
	for i := range 3 {
		c.put("status/newer", fmt.Sprintf(`{"schema":%d}`, i+3))
		c.sees(x, "the change", func(s *Snapshot) bool { return strings.Contains(s.Get("newer").Error, fmt.Sprintf("schema %d", i+3)) })
	}
	if n := l.count("agent=newer"); n != 1 {
		t.Errorf("an agent that cannot be read was told %d times", n)
	}
	if n := l.count("belong to none"); n != 1 {
		t.Errorf("strays were told %d times", n)
	}
	c.remove("status/ghost")
	c.put("registry/newer", `{"schema":1,"id":"newer"}`, "status/newer", `{"schema":1}`)
	waittest.Until(t, "what is mended is no error any more", func() bool {
		s := x.Snapshot()
		return s.Get("newer").Error == "" && s.Strays().Count == 7
	})
}

func TestHundredThousandStrayKeysNeitherHideAnAgentNorCostItsChanges(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(2)
	const n = 100_000
	for i := 0; i < n; {
		var pairs []string
		for ; len(pairs) < 240; i += 2 {
			pairs = append(pairs, fmt.Sprintf("status/agent-%09d", i), "{", fmt.Sprintf("plugins/%s/p%d", crowdID(1), i), `{"schema":1}`)
		}
		c.put(pairs...)
	}
	x := c.index(IndexConfig{})
	c.ready(x)
	s := x.Snapshot()
	if s.Len() != 2 || s.Strays().Count < n/2 || len(s.Strays().Examples) != maxExamples {
		t.Errorf("%d agents, strays %+v", s.Len(), s.Strays())
	}
	if e := s.Get(crowdID(1)); len(e.Plugins) != maxPlugins || !strings.Contains(e.Error, "plugins, the first 256 are shown") {
		t.Errorf("%d plugins, %q", len(e.Plugins), e.Error)
	}
	for i := range 20 {
		version := fmt.Sprintf("1.1.%d", i)
		c.put("registry/"+crowdID(1), registered(t, 1, version))
		c.sees(x, "the change", runs(crowdID(1), version))
	}
	page, err := c.dir.List(t.Context(), ListOptions{})
	if err != nil || len(page.Entries) != 2 {
		t.Errorf("%d listed, %v", len(page.Entries), err)
	}
}
