package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// quickHost is done the moment it is told to begin.
type quickHost struct {
	began chan Order
	mu    sync.Mutex
	done  map[string]bool
}

func (h *quickHost) Begin(o Order) {
	h.mu.Lock()
	h.done[o.Request] = true
	h.mu.Unlock()
	h.began <- o
}

func (h *quickHost) Standing(o Order) (s Standing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.There = true; h.done[o.Request] {
		s.State = ReportDone
	}
	return s
}

func (*quickHost) Retract(string) {}

func (*quickHost) Settle(string) {}

// follower runs a Follower, of an agent that joined at this revision, against etcd
// until stop.
func follower(t *testing.T, client *clientv3.Client, state string, joined int64) (f *Follower, h *quickHost, stop func()) {
	t.Helper()
	h = &quickHost{began: make(chan Order, 10), done: map[string]bool{}}
	f, err := NewFollower(FollowerConfig{
		Client: client, Host: h, State: state,
		Self: func() Member { return Member{ID: "a1", Joined: joined} }, Renewed: func() (time.Duration, bool) { return 0, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := waittest.Next(t, "Run returns", done); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return f, h, stop
}

func (r *followRig) put(t *testing.T, client *clientv3.Client) {
	t.Helper()
	data, err := json.Marshal(r.plan)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/agents/plan/default", string(data)); err != nil {
		t.Fatal(err)
	}
}

func (f *Follower) waitsFor(t *testing.T, request string, state ReportState) {
	t.Helper()
	waittest.Until(t, request+" is "+string(state), func() bool {
		r := f.Report()
		return r != nil && r.Request == request && r.State == state
	})
}

// TestAFollowerFollowsThroughOutagesAndRestarts: an agent would miss the mark that
// moved while etcd was away, or while it was itself, or begin twice.
func TestAFollowerFollowsThroughOutagesAndRestarts(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := server.Proxy(t)
	direct, client := server.Client(t), proxy.Client(t)
	r := newFollowRig(t)
	state := filepath.Join(t.TempDir(), "rollout.json")
	f, h, stop := follower(t, client, state, 1)
	r.plan.Cursor.AsOf = 1
	r.put(t, direct)
	r.admits()
	r.put(t, direct)
	if o := waittest.Next(t, "the host begins", h.began); o.Request != "r1.1" || o.Action != ActSwitch {
		t.Errorf("begins %+v", o)
	}
	f.Touch()
	f.waitsFor(t, "r1.1", ReportDone)

	proxy.Cut()
	r.plan.Instruction.Number = 2
	r.put(t, direct)
	proxy.Heal()
	if o := waittest.Next(t, "the host begins after an outage", h.began); o.Request != "r1.2" {
		t.Errorf("begins %+v", o)
	}
	f.Touch()
	f.waitsFor(t, "r1.2", ReportDone)
	stop()

	f, h, stop = follower(t, client, state, 1)
	f.waitsFor(t, "r1.2", ReportDone)
	r.plan.Instruction.Number = 3
	r.put(t, direct)
	if o := waittest.Next(t, "the host begins after a restart", h.began); o.Request != "r1.3" {
		t.Errorf("begins %+v, which had ended before the restart", o)
	}
	stop()
	if err := f.Run(t.Context()); err == nil {
		t.Error("Run runs twice")
	}
}

// TestAFollowerThatCannotWorkIsNotMade: it would fail later, and an agent with it.
func TestAFollowerThatCannotWorkIsNotMade(t *testing.T) {
	client := clientv3.NewCtxClient(t.Context())
	good := FollowerConfig{
		Client: client, Host: &quickHost{}, Self: func() Member { return Member{} }, Renewed: func() (time.Duration, bool) { return 0, true },
	}
	for name, damage := range map[string]func(c *FollowerConfig){
		"no client": func(c *FollowerConfig) { c.Client = nil }, "no host": func(c *FollowerConfig) { c.Host = nil },
		"no self": func(c *FollowerConfig) { c.Self = nil }, "no word of renewals": func(c *FollowerConfig) { c.Renewed = nil },
		"a fleet that is none": func(c *FollowerConfig) { c.Fleet = "a/b" },
	} {
		bad := good
		if damage(&bad); func() error { _, err := NewFollower(bad); return err }() == nil {
			t.Errorf("%s: made", name)
		}
	}
	if _, err := NewFollower(good); err != nil {
		t.Error(err)
	}
}

// BenchmarkHearAMarkThatMoves is what each agent of a fleet does, and one process for
// all of them in a simulation, when the mark moves.
func BenchmarkHearAMarkThatMoves(b *testing.B) {
	p := Plan{
		ID: "r1", Created: time.Now(), Since: time.Now(), Target: Target{Release: releasePin("1.1.0"), Program: "demo"},
		Instruction: Instruction{Number: 1, Action: ActSwitch}, Stages: DefaultCanary(), Cursor: Cursor{AsOf: 100},
	}.WithDefaults()
	var values [][]byte
	for n := range 2 {
		p.Cursor.Marks = []Mark{{Open: true, Rank: Rank(n)}}
		values = append(values, []byte(encoded(b, p)))
	}
	f := &Follower{keys: keys{"/agents/", DefaultFleet}}
	f.cfg.OnReport = func() {}
	f.cfg.Renewed = func() (time.Duration, bool) { return 0, true }
	f.cfg.Self = func() Member { return Member{ID: "a1", Joined: 50, Labels: map[string]string{"env": "test"}} }
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		f.hear(planView{plan: values[n%2], mod: 1000})
		f.look(time.Now())
	}
}
