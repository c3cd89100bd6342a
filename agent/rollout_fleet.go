package agent

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// lookForOverdue is how often it is looked whether an agent has become overdue,
// of which nothing tells.
const lookForOverdue = 15 * time.Second

// overdueGrace is how long after etcd has answered again nobody counts as overdue:
// after an outage the status of all agents is old, and no release did that.
const overdueGrace = time.Minute

// fleetCoalesce is the least distance between two snapshots: each costs as much
// as the fleet is large.
const fleetCoalesce = 200 * time.Millisecond

// RolloutFleet shows the agents of one fleet to its rollouts' controller, of those
// of d; "" is rollout.DefaultFleet. Each Watch of it keeps an Index of its own for
// as long as it runs.
func RolloutFleet(d *Directory, fleet string) rollout.Fleet {
	if fleet == "" {
		fleet = rollout.DefaultFleet
	}
	return rolloutFleet{d, fleet}
}

// rolloutFleet shows the agents of a fleet; "" = those of all.
type rolloutFleet struct {
	directory *Directory
	fleet     string
}

// Watch implements rollout.Fleet.
func (f rolloutFleet) Watch(ctx context.Context, changed func(rollout.Snapshot), stale func(error)) error {
	var heard atomic.Pointer[time.Time] // since when etcd answers
	hear := func() { heard.Store(new(time.Now())) }
	hear()
	x, err := NewIndex(IndexConfig{Directory: f.directory, Coalesce: fleetCoalesce, OnError: func(err error) {
		if err == nil {
			hear()
		}
		stale(err)
	}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var run sync.WaitGroup
	defer run.Wait()
	defer stop()
	run.Go(func() { _ = x.Run(ctx) }) // it ends with ctx only
	m := members{fleet: f.fleet}
	look := time.NewTicker(lookForOverdue)
	defer look.Stop()
	for next := x.Ready(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		case <-look.C:
		}
		s := x.Snapshot()
		if s.Registered() == 0 {
			continue // not Ready yet
		}
		next = s.superseded
		if next, news := m.take(s, time.Now(), *heard.Load()); news {
			changed(next)
		}
	}
}

// members are those of the newest snapshot, made once for each entry.
type members struct {
	fleet    string   // "" = all
	entries  []*Entry // of that snapshot, by id
	of       []*rollout.Member
	revision int64
}

// take returns the members of s, and whether any is new, gone or another. heard is
// since when etcd answers.
func (m *members) take(s *Snapshot, now, heard time.Time) (all rollout.Snapshot, news bool) {
	news = s.Registered() != m.revision || len(s.entries) != len(m.of)
	m.revision = s.Registered()
	of := make([]*rollout.Member, 0, len(s.entries))
	all = rollout.Snapshot{Revision: m.revision, Members: make([]*rollout.Member, 0, len(s.entries))}
	before := 0
	for _, e := range s.entries {
		for before < len(m.entries) && m.entries[before].ID < e.ID {
			before++
		}
		var member *rollout.Member
		if before < len(m.entries) && m.entries[before] == e {
			member = m.of[before]
		}
		if overdue := e.Overdue(now) > 0 && now.Sub(heard) > overdueGrace; member == nil || member.Overdue != overdue {
			member, news = RolloutMember(e, now), true
			member.Overdue = overdue
		}
		of = append(of, member)
		switch {
		case e.Fleet == m.fleet || m.fleet == "":
			all.Members = append(all.Members, member)
		case e.Fleet == "":
			all.Apart = append(all.Apart, member)
		}
	}
	m.entries, m.of = s.entries, of
	return all, news
}

// rolloutPublisher publishes documents whose rollout has completed.
type rolloutPublisher struct{ directory *Directory }

// Prepare implements rollout.Publisher.
func (p rolloutPublisher) Prepare(ctx context.Context, d rollout.Publication) ([]clientv3.Cmp, []clientv3.Op, error) {
	there, err := config.Latest(ctx, p.directory.client, p.directory.keys.root, d.Scope)
	if err != nil {
		return nil, nil, err
	}
	none := there.Revision == 0 || there.Deleted
	if d.Replaces != nil && (none || !bytes.Equal(there.Data, d.Replaces)) {
		return nil, nil, nil // it was never published, or others have published since
	}
	if !d.MayReplace(there.Data) {
		return nil, nil, fmt.Errorf("%s: %w", revisionOf(&there), rollout.ErrPublished)
	}
	change := config.Change{Scope: d.Scope, Replaces: there.Revision, By: d.By, Message: d.Message}
	if none {
		change.Replaces = 0
	}
	made, err := config.Prepare(ctx, p.directory.client, p.directory.keys.root, d.Document, change)
	return made.If, made.Then, err
}

// revisionOf says which document d is, and whose.
func revisionOf(d *config.Document) string {
	what := "no document"
	switch {
	case d.Deleted:
		what = "the deletion"
	case d.Revision > 0:
		what = fmt.Sprintf("revision %d", d.Revision)
	}
	if d.By != "" {
		what += " by " + d.By
	}
	return what
}
