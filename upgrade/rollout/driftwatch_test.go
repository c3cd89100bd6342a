package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// drifting is a DriftWatch on a real etcd and what it has told last.
type drifting struct {
	*testing.T
	*DriftWatch
	metrics *Metrics

	mu   sync.Mutex
	last Drift
}

func newDrifting(t *testing.T, s *etcdtest.Server, every time.Duration) *drifting {
	t.Helper()
	d := &drifting{T: t, metrics: NewMetrics("")}
	var err error
	d.DriftWatch, err = NewDriftWatch(DriftWatchConfig{
		Client: s.Client(t), Every: every,
		Changed: func(now Drift) {
			d.metrics.Drift(now)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.last = now
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.DriftWatch.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return d
}

// shows waits until the one environment has this status, and its metric too.
func (d *drifting) shows(after string, want DriftStatus) {
	d.Helper()
	waittest.Nil(d, after+" it shows "+string(want), func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.last.Environments) != 1 || d.last.Environments[0].Status != want || d.last.Agents[0].Status != want {
			return fmt.Errorf("%+v", d.last)
		}
		series := gathered(d, d.metrics)
		if n := series[fmt.Sprintf(`perennial_fleet_drift{environment="production",fleet="default",status=%q}`, want)]; n != 1 {
			return fmt.Errorf("the metric says %v", series)
		}
		return nil
	})
}

// compareNow is the worst that there is at this moment.
func (d *drifting) compareNow(tb testing.TB) DriftStatus {
	tb.Helper()
	now, ok := d.compare()
	if !ok {
		tb.Fatal("nothing can be compared")
	}
	return now.Worst()
}

// gathered are the series of a collector.
func gathered(tb testing.TB, c prom.Collector) map[string]float64 {
	tb.Helper()
	r := prom.NewPedanticRegistry()
	err := r.Register(c)
	families, gatherErr := r.Gather()
	if err = errors.Join(err, gatherErr); err != nil {
		tb.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
			}
			all[f.GetName()+"{"+labels[1:]+"}"] = m.GetGauge().GetValue()
		}
	}
	return all
}

func TestDriftShowsAsItComesAboutAndEndsWithTheElection(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client, ctx := s.Client(t), t.Context()
	put := func(key, value string) int64 {
		t.Helper()
		r, err := client.Put(ctx, "/agents/"+key, value)
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	m := production("a1")
	m.ConfigRevision = put("config/group/web", "a: 1")
	d := newDrifting(t, s, time.Millisecond)
	elected := Observation{Elected: true, Snapshot: Snapshot{Revision: 1, Members: []*Member{m}}}
	d.metrics.Observe(elected)
	d.Observe(elected)
	d.shows("without a pin", DriftUnpinned)
	d.Observe(Observation{Elected: true}) // a term begins before its agents are known
	if d.compareNow(t) != DriftUnpinned {
		t.Error("a controller that has not seen the agents yet says that there are none")
	}

	pin := driftPins()[0]
	pin.Config = nil
	revision, err := SetPin(ctx, client, "", pin, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.shows("after it is pinned", DriftNone)
	pin.Release = pinOf("1.3.0", "e")
	if _, err := SetPin(ctx, client, "", pin, 0); !errors.Is(err, ErrPinMoved) {
		t.Errorf("a pin that was there was replaced unseen: %v", err)
	}
	if revision, err = SetPin(ctx, client, "", pin, revision); err != nil {
		t.Fatal(err)
	}
	d.shows("after the pin has moved", DriftVersion)
	plan := Plan{ID: "r-1", Fleet: "default", Target: Target{Release: pin.Release}}.WithDefaults()
	value, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	put("plan/default", string(value))
	d.shows("while a rollout brings it", DriftRolling)
	put("plan/default", "garbage")
	d.shows("with a plan that is none", DriftVersion)
	if revision, err = SetPin(ctx, client, "", driftPins()[0], revision); err != nil {
		t.Fatal(err)
	}
	d.shows("while another document is pinned", DriftConfig)
	if err := DeletePin(ctx, client, "", "production", revision-1); !errors.Is(err, ErrPinMoved) {
		t.Errorf("a pin that had moved was deleted unseen: %v", err)
	}
	put("pin/production", `{"schema":2}`)
	d.shows("with a pin of a later schema", DriftUnknown)
	if all, err := Pins(ctx, client, ""); !errors.Is(err, ErrPin) || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	bad, err := GetPin(ctx, client, "", "production")
	if !errors.Is(err, ErrPin) {
		t.Errorf("a pin of a later schema is read: %v", err)
	}
	if err := DeletePin(ctx, client, "", "production", bad.Revision); err != nil {
		t.Fatal(err)
	}
	d.shows("after the pin was deleted", DriftUnpinned)
	if _, err := GetPin(ctx, client, "", "production"); !errors.Is(err, ErrNoPin) {
		t.Errorf("%v", err)
	}

	vanishes := func(what string) {
		t.Helper()
		waittest.Until(t, what, func() bool {
			_, there := gathered(t, d.metrics)[`perennial_fleet_drift{environment="production",fleet="default",status="unpinned"}`]
			return !there
		})
	}
	blind := elected
	blind.Blind = true
	d.Observe(blind)
	vanishes("drift of agents that are not seen any more is not shown")
	d.Observe(Observation{Elected: true}) // which has not seen them yet
	d.Observe(elected)
	d.shows("once they are seen again", DriftUnpinned)
	d.complain(sourceEtcd, errors.New("no answer"))
	d.changed()
	vanishes("drift from pins that may be old is not shown")
	apart := elected
	apart.Snapshot = Snapshot{Revision: 2, Apart: []*Member{m}}
	d.Observe(apart)
	d.complain(sourceEtcd, nil)
	d.changed()
	d.shows("once the pins are read again, of an agent that follows no plan", DriftUnpinned)

	d.Observe(Observation{})
	d.metrics.Observe(Observation{})
	waittest.Nil(t, "nothing is shown by who does not look any more", func() error {
		if series := gathered(t, d.metrics); len(series) != 1 || series[`perennial_rollout_controller{fleet="default"}`] != 0 {
			return fmt.Errorf("%v", series)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.last.Environments) != 0 {
			return fmt.Errorf("%+v", d.last)
		}
		return nil
	})
}

// TestDriftThatIsOldSaysSo: nobody would look further while a dead watch shows
// that all is well.
// TestAComparisonIsMadeAsSoonAsItCanBe: agentd drift took as long as the pause between
// two comparisons where the agents came after the pins.
func TestAComparisonIsMadeAsSoonAsItCanBe(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, etcdtest.Start(t), time.Hour)
	waittest.Until(t, "the pins are read, and nothing was compared", func() bool {
		d.DriftWatch.mu.Lock()
		defer d.DriftWatch.mu.Unlock()
		return d.known && len(d.dirty) == 0
	})
	d.Observe(Observation{Elected: true, Snapshot: Snapshot{Revision: 1, Members: []*Member{production("a1")}}})
	waittest.Until(t, "the agents are compared", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.last.Agents) == 1
	})
}

func TestDriftThatIsOldSaysSo(t *testing.T) {
	var told []string
	w, err := NewDriftWatch(DriftWatchConfig{
		Client: &clientv3.Client{}, Changed: func(Drift) {}, Stale: func(err error) { told = append(told, fmt.Sprint(err)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source string
		err    error
	}{
		{"agents", nil}, {"agents", errors.New("no answer")}, {"agents", errors.New("no answer")}, {"etcd", errors.New("cut off")},
		{"agents", nil}, {"plan", nil}, {"etcd", nil},
	} {
		w.complain(c.source, c.err)
	}
	if want := []string{"no answer", "cut off; no answer", "cut off", "<nil>"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestMetricsOfARolloutAreThoseOfItsBooks(t *testing.T) {
	m := NewMetrics("edge")
	plan := Plan{ID: "r-1", State: Halted, Since: time.Unix(1000, 0), Stage: 1}.WithDefaults()
	m.Observe(Observation{Elected: true, Plan: &plan, Freeze: &Freeze{}, Err: errors.New("etcd"), Books: Books{Figures: Figures{
		Waiting: 1, UnderWay: 2, Succeeded: 3, Failed: 4, Silent: 5, Gone: 6, Held: 7, Late: 8, Unavailable: 9,
	}}})
	got := gathered(t, m)
	want := map[string]float64{
		`controller{`: 1, `frozen{`: 1, `stuck{`: 1, `stage{`: 2, `stages{`: 3, `unavailable_agents{`: 9, `state_timestamp_seconds{`: 1000,
		`agents{,outcome="waiting"`: 1, `agents{,outcome="under_way"`: 2, `agents{,outcome="succeeded"`: 3, `agents{,outcome="failed"`: 4,
		`agents{,outcome="silent"`: 5, `agents{,outcome="gone"`: 6, `agents{,outcome="held"`: 7, `agents{,outcome="late"`: 8,
	}
	for _, s := range []State{Running, Paused, Halted, Reverting, Reverted, Aborted, Completed} {
		want[fmt.Sprintf(`state{,state=%q`, s)] = 0
	}
	want[`state{,state="halted"`] = 1
	named := map[string]float64{}
	for series, value := range want {
		name, labels, _ := strings.Cut(series, "{")
		named["perennial_rollout_"+name+`{fleet="edge"`+labels+"}"] = value
	}
	if !maps.Equal(got, named) {
		t.Errorf("%v\nwant\n%v", got, named)
	}
}

// TestLabelsOfAgentsDoNotFillTheMetrics: an agent says itself what its environment
// is called.
func TestLabelsOfAgentsDoNotFillTheMetrics(t *testing.T) {
	var members []*Member
	for i := range 200 {
		m := production(fmt.Sprint("a", i))
		m.Labels = map[string]string{"env": fmt.Sprintf("e%03d", i)}
		members = append(members, m)
	}
	members[0].Labels["env"] = "no\nenvironment"
	drift, err := Compare(DriftInput{Members: members})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("")
	m.Observe(Observation{Elected: true})
	m.Drift(drift)
	series := gathered(t, m)
	if n := series[`perennial_fleet_drift{environment="(others)",fleet="default",status="unpinned"}`]; n < 136 || n > 137 {
		t.Errorf("%v are folded", n)
	}
	if len(series) > 3+(maxLabelled+1)*len(DriftStatuses()) {
		t.Errorf("%d series", len(series))
	}
}
