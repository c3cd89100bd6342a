package dispatch

import (
	"errors"
	"fmt"
	"slices"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/tracing"
)

// MaxCursor bounds the cursor of a result, in bytes.
const MaxCursor = 4 << 10

// maxTargets bounds the agents of a task for all of them.
const maxTargets = 999_999

func (s *spec) check() error {
	switch {
	case !validTaskID(s.ID):
		return fmt.Errorf("id %.80q is none", s.ID)
	case s.PayloadBytes < 0 || s.PayloadBytes > MaxPayload, s.PayloadBytes > 0 && !validID(s.PayloadOf):
		return fmt.Errorf("payload of %d bytes of task %.80q", s.PayloadBytes, s.PayloadOf)
	case (s.Parent == "") != (s.Pinned == ""):
		return errors.New("a run without its agent or its task")
	case s.Parent != "" && (!validID(s.Parent) || etcdkv.ValidID(s.Pinned) != nil):
		return fmt.Errorf("run of task %.80q on agent %.80q", s.Parent, s.Pinned)
	}
	s.Traceparent = tracing.Clean(s.Traceparent) // a trace is no reason to refuse a task
	t := s.Task
	t.ID = ""
	return t.check()
}

func (t *targets) check() error {
	if len(t.Agents) > maxTargets {
		return fmt.Errorf("%d agents, at most %d", len(t.Agents), maxTargets)
	}
	return checkIDs(t.Agents...)
}

func checkIDs(ids ...string) error {
	for _, id := range ids {
		if err := etcdkv.ValidID(id); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) check() error {
	switch r.State {
	case Queued, Spread, Succeeded, Dead, Cancelled, Expired:
	case Assigned:
		if r.Agent == "" {
			return errors.New("assigned to nobody")
		}
	default:
		return fmt.Errorf("state %.40q is not known", r.State)
	}
	if r.Agent != "" && etcdkv.ValidID(r.Agent) != nil {
		return fmt.Errorf("agent %.80q is none", r.Agent)
	}
	if r.Attempt < 0 || r.Failures < 0 || r.Losses < 0 || r.Total < 0 || r.Created < 0 || r.Created > r.Total || r.Total > maxTargets {
		return errors.New("a count that cannot be")
	}
	if len(r.Segments) > maxSegments || len(r.Attempts) > maxAttempts {
		return fmt.Errorf("%d attempts and results on %d agents, at most %d and %d", len(r.Attempts), len(r.Segments), maxAttempts, maxSegments)
	}
	last := int64(0)
	for _, s := range r.Segments {
		if etcdkv.ValidID(s.Agent) != nil || s.From <= last {
			return fmt.Errorf("results from %d on at agent %.80q", s.From, s.Agent)
		}
		last = s.From
	}
	if err := r.Last.check(); err != nil {
		return err
	}
	return r.Resume.check()
}

func (r *resume) check() error {
	if r.Number < 0 || r.Number > MaxResults || r.Bytes < 0 || len(r.Cursor) > MaxCursor {
		return fmt.Errorf("resume point %d with %d bytes and a cursor of %d", r.Number, r.Bytes, len(r.Cursor))
	}
	return nil
}

func (a *assignment) check() error {
	switch {
	case a.Attempt < 1:
		return fmt.Errorf("attempt %d", a.Attempt)
	case len(a.Payload) > MaxPayload:
		return fmt.Errorf("payload of %d bytes, at most %d", len(a.Payload), MaxPayload)
	case a.Plugin == "" && a.Capability == "":
		return errors.New("neither plugin nor capability")
	case a.Plugin != "" && !ident.Valid(a.Plugin, "._-"), a.Capability != "" && !ident.Valid(a.Capability, "._-/"):
		return fmt.Errorf("plugin %.80q, capability %.80q", a.Plugin, a.Capability)
	case a.Timeout < 0:
		return fmt.Errorf("timeout %s", a.Timeout)
	}
	a.Traceparent = tracing.Clean(a.Traceparent)
	if _, err := parseConstraint(a.Version); err != nil {
		return err
	}
	if err := checkText("idempotency key", a.IdempotencyKey); err != nil {
		return err
	}
	return a.Resume.check()
}

func (c *claim) check() error { return checkIDs(c.Instance) }

func (r *resultValue) check() error {
	if len(r.Payload) > maxResult || len(r.Cursor) > MaxCursor || r.Bytes < 0 {
		return fmt.Errorf("result of %d bytes with a cursor of %d", len(r.Payload), len(r.Cursor))
	}
	return r.Resume.check()
}

func (o *outcome) check() error {
	ends := []string{endSucceeded, endFailed, endPermanent, endCancelled, endExpired, endReleased}
	if !slices.Contains(ends, o.Ended) {
		return fmt.Errorf("ended %.40q: want one of %q", o.Ended, ends)
	}
	if o.Attempt < 0 || len(o.Error) > maxError {
		return fmt.Errorf("attempt %d with an error of %d bytes", o.Attempt, len(o.Error))
	}
	if err := o.Last.check(); err != nil {
		return err
	}
	if o.Resume.Number > o.Last.Number {
		return fmt.Errorf("resumes at %d, after its last result %d", o.Resume.Number, o.Last.Number)
	}
	return o.Resume.check()
}

// maxPlugins bounds the plugins and groups of a worker.
const maxPlugins = 10_000

func (w *workerValue) check() error {
	if w.Concurrency < 1 || w.Concurrency > maxConcurrency || w.Room < w.Concurrency || w.Room > 2*maxConcurrency {
		return fmt.Errorf("concurrency %d with room for %d", w.Concurrency, w.Room)
	}
	if len(w.Plugins) > maxPlugins || len(w.Groups) > maxPlugins || len(w.Labels) > maxPlugins {
		return fmt.Errorf("%d plugins, %d groups, %d labels: at most %d each", len(w.Plugins), len(w.Groups), len(w.Labels), maxPlugins)
	}
	return checkIDs(w.Agent, w.Instance)
}

func (p *pointer) check() error {
	if !validID(p.ID) || !ident.SHA256(p.Digest) {
		return fmt.Errorf("task %.80q with digest %.80q", p.ID, p.Digest)
	}
	return nil
}

func (l *leaderValue) check() error { return checkIDs(l.ID) }

func (p *payloadValue) check() error {
	if len(p.Payload) > MaxPayload {
		return fmt.Errorf("payload of %d bytes, at most %d", len(p.Payload), MaxPayload)
	}
	return nil
}
