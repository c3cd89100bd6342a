package agent

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

// BenchmarkFleet measures reading a fleet of -benchfleet agents (10,000) in a
// real etcd: go test -run '^$' -bench Fleet -benchtime 20x ./agent.
func BenchmarkFleet(b *testing.B) {
	c := newCrowd(b)
	c.fill(*benchAgents)
	b.Run("List", func(b *testing.B) { c.benchList(b, ListOptions{}, *benchAgents) })
	b.Run("ListPage", func(b *testing.B) { c.benchList(b, ListOptions{Limit: 500}, min(500, *benchAgents)) })
	b.Run("ListSelected", func(b *testing.B) {
		c.benchList(b, ListOptions{Selector: selects(b, "zone in (a,b),.version>=1")}, *benchAgents/2)
	})
	b.Run("IndexFirst", c.benchFirst)
	x := c.index(IndexConfig{Coalesce: -1})
	c.ready(x)
	b.Run("IndexChange", func(b *testing.B) { c.benchChange(b, x) })
	b.Run("IndexApply", func(b *testing.B) { benchApply(b, x.Snapshot().Len()) })
	for name, text := range map[string]string{
		"label": "env=test", "set": "zone in (a,b),rack!=r001,.health=ready", "version": ".version>=1.2", "all": "",
	} {
		b.Run("IndexList/"+name, func(b *testing.B) {
			s, sel := x.Snapshot(), selects(b, text)
			for b.Loop() {
				s.List(sel)
			}
		})
	}
	b.Run("IndexGet", func(b *testing.B) {
		for b.Loop() {
			x.Snapshot().Get(crowdID(4711))
		}
	})
}

func (c *crowd) benchList(b *testing.B, opts ListOptions, want int) {
	for b.Loop() {
		page, err := c.dir.List(b.Context(), opts)
		if err != nil || len(page.Entries) != want {
			b.Fatalf("%d agents, want %d: %v", len(page.Entries), want, err)
		}
	}
}

// benchFirst measures from nothing to a full index, and what that holds.
func (c *crowd) benchFirst(b *testing.B) {
	var held uint64
	for b.Loop() {
		before := heap()
		x, err := NewIndex(IndexConfig{Directory: c.dir})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = x.Run(ctx) }()
		waittest.Next(b, "the index is ready", x.Ready())
		b.StopTimer()
		if n := x.Snapshot().Len(); n != *benchAgents {
			b.Fatalf("%d agents", n)
		}
		held = max(held, heap()-before)
		stop()
		<-ended
		runtime.KeepAlive(x)
		b.StartTimer()
	}
	b.ReportMetric(float64(held)/(1<<20), "MiB")
	b.ReportMetric(float64(held)/float64(*benchAgents), "B/agent")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchChange measures from a write to the snapshot that has it, etcd included.
func (c *crowd) benchChange(b *testing.B, x *Index) {
	ctx, stop := context.WithCancel(b.Context())
	seen, ended := make(chan Changes, 1), make(chan struct{})
	go func() {
		defer close(ended)
		_ = x.Watch(ctx, func(_ *Snapshot, c Changes) { seen <- c })
	}()
	<-seen
	i := 0
	for b.Loop() {
		i++
		c.put("registry/"+crowdID(i%*benchAgents), registered(b, i%*benchAgents, fmt.Sprintf("2.0.%d", i)))
		if got := waittest.Next(b, "the change", seen); len(got.Changed) != 1 {
			b.Fatalf("%d changed", len(got.Changed))
		}
	}
	stop()
	<-ended
}

// benchApply measures what one change costs the index itself.
func benchApply(b *testing.B, n int) {
	d := &Directory{keys: newKeys("")}
	client, err := EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}}.Dial()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	d.client = client
	x, err := NewIndex(IndexConfig{Directory: d})
	if err != nil {
		b.Fatal(err)
	}
	view := etcdkv.View{Values: map[string]etcdkv.Value{}}
	for i := range n {
		key := d.keys.registry(crowdID(i))
		view.Values[key] = etcdkv.Value{Data: []byte(registered(b, i, "1.0.0"))}
		view.Changed = append(view.Changed, key)
	}
	x.apply(view)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		view.Changed = []string{d.keys.registry(crowdID(i % n))}
		x.apply(view)
	}
}
