package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

// crew are agents that do what a plan asks for, at once or when they are let.
type crew struct {
	*rig
	mu      sync.Mutex
	members map[string]*Member
	held    map[string]bool // those that have begun and do not end
	holds   bool            // all that begin
	worst   int             // the most that were at it at once
	changed chan struct{}   // closed at each change
	rev     int64
}

// crew has n agents follow the plan until the test ends.
func (r *rig) crew(n int) *crew {
	r.Helper()
	// They join at revisions that there are.
	put, err := r.client.Put(r.Context(), "/agents/registry/none", "")
	if err != nil {
		r.Fatal(err)
	}
	c := &crew{rig: r, members: map[string]*Member{}, held: map[string]bool{}, changed: make(chan struct{}), rev: put.Header.Revision}
	for i := range n {
		id := fmt.Sprintf("a%d", i)
		c.members[id] = &Member{ID: id, Joined: 1, Version: "1.0.0", Ready: true}
	}
	r.background(func(ctx context.Context) error {
		return r.operate(r.client).Watch(ctx, func(v View) {
			if v.Plan != nil {
				c.follow(v.Plan)
			}
		})
	})
	return c
}

// follow has everybody do what p asks for.
func (c *crew) follow(p *Plan) {
	adm, err := NewAdmission(*p)
	if err != nil {
		c.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if adm.Admits(m) && (m.Report == nil || m.Report.Request != p.Request()) {
			c.report(m.ID, p, ReportStarted)
		}
	}
	c.worst = max(c.worst, len(c.held))
	if !c.holds {
		c.end(p)
	}
}

// report replaces a member: those that were shown do not change.
func (c *crew) report(id string, p *Plan, s ReportState) {
	m := *c.members[id]
	m.Report = &Report{Request: p.Request(), State: s, At: time.Now()}
	if c.held[id] = true; s.Ended() {
		delete(c.held, id)
	}
	if s == ReportDone {
		target := p.Target
		if p.Instruction.Action == ActRevert {
			target = p.Previous
		}
		m.Version, m.Manifest = target.Release.Version, target.Release.Digest
	}
	c.members[id] = &m
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *crew) end(p *Plan) {
	for id := range c.held {
		c.report(id, p, ReportDone)
	}
}

// hold has those who begin from now on not end; release has all go on.
func (c *crew) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = true
}

func (c *crew) release() {
	p := c.status().Plan
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = false
	c.end(p)
}

func (c *crew) begun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

func (c *crew) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.worst
}

// Watch implements Fleet.
func (c *crew) Watch(ctx context.Context, changed func(Snapshot), _ func(error)) error {
	for {
		c.mu.Lock()
		s := Snapshot{Revision: c.rev}
		for _, m := range c.members {
			s.Members = append(s.Members, m)
		}
		next := c.changed
		c.mu.Unlock()
		slices.SortFunc(s.Members, func(a, b *Member) int { return strings.Compare(a.ID, b.ID) })
		changed(s)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

// control runs a controller until it is stopped.
func (c *crew) control(id string, set ...func(*ControllerConfig)) (stop func()) {
	c.Helper()
	cfg := ControllerConfig{Client: c.client, ID: id, TTL: time.Second, Agents: c, Logger: c.logger()}
	for _, s := range set {
		s(&cfg)
	}
	one, err := NewController(cfg)
	if err != nil {
		c.Fatal(err)
	}
	return c.background(one.Run)
}

// leads waits until a controller is elected.
func (c *crew) leads(id string) {
	c.Helper()
	waittest.Until(c.T, id+" is elected", func() bool {
		v, err := c.operator.Status(c.Context())
		return err == nil && v.Leader != nil && v.Leader.ID == id
	})
}

// becomes waits until the rollout is in a state.
func (c *crew) becomes(want State) View {
	c.Helper()
	var v View
	waittest.Nil(c.T, fmt.Sprintf("the rollout is %s", want), func() (err error) {
		if v, err = c.operator.Status(c.Context()); err == nil && (v.Plan == nil || v.Plan.State != want) {
			err = fmt.Errorf("it is %+v", v.Plan)
		}
		return err
	})
	return v
}

// steps checks that each write of the plan is one transaction with its record,
// and with the books where it is a controller's.
func (c *crew) steps() {
	c.Helper()
	k := c.operator.keys
	now, err := c.client.Get(c.Context(), k.plan())
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	wrote := map[string]map[int64]bool{"plan": {}, "books": {}, "record": {}}
	by := map[int64]string{}
	for r := range c.client.Watch(ctx, k.root, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		for _, e := range r.Events {
			switch key := string(e.Kv.Key); {
			case key == k.plan():
				wrote["plan"][e.Kv.ModRevision] = true
			case key == k.books():
				wrote["books"][e.Kv.ModRevision] = true
			case strings.HasPrefix(key, k.history()):
				var record Record
				if err := decode(key, e.Kv.Value, maxRecord, &record); err != nil {
					c.Error(err)
				}
				wrote["record"][e.Kv.ModRevision], by[e.Kv.ModRevision] = true, record.By
			}
		}
		if r.Header.Revision >= now.Kvs[0].ModRevision {
			break
		}
	}
	for revision := range wrote["plan"] {
		if !wrote["record"][revision] || strings.HasPrefix(by[revision], "controller") && !wrote["books"][revision] {
			c.Errorf("revision %d has the plan, by %q: record %t, books %t", revision, by[revision], wrote["record"][revision], wrote["books"][revision])
		}
	}
	if len(wrote["record"]) != len(wrote["plan"]) {
		c.Errorf("%d writes of the plan, %d records", len(wrote["plan"]), len(wrote["record"]))
	}
}

// viewOf is what a watch that has reached revision shows.
func viewOf(revision int64, kvs []*mvccpb.KeyValue) etcdkv.View {
	v := etcdkv.View{Revision: revision, Values: map[string]etcdkv.Value{}}
	for _, kv := range kvs {
		v.Values[string(kv.Key)] = etcdkv.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision}
	}
	return v
}
