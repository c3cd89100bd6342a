package dispatch

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/failpoint"
)

// assignStep is how many tasks are assigned before what has changed is looked
// at again.
const assignStep = 2000

// supply are the agents that can take tasks with the same demand.
type supply struct {
	key    string
	agents []*agent // sorted
	era    int      // of the model's, for which this holds
	step   int      // in which was found out whether
	full   bool     // none has room
}

// assign gives queued tasks to agents that have room.
func (t *term) assign(ctx context.Context) error {
	m := t.model
	room := 0
	for _, a := range m.working() {
		room += max(a.room(), 0)
	}
	if room == 0 || len(m.queued) == 0 {
		return nil
	}
	m.step++
	var chosen []assigned
	due := m.due(time.Now())
	for k := due.next(m.fair()); k != nil; k = due.next(m.fair()) {
		if len(chosen) == min(room, assignStep) {
			ring(t.bell)
			break
		}
		if a := m.choose(k); a != nil {
			a.tasks[k.id] = k // its room is taken
			m.given++
			chosen = append(chosen, assigned{k, a})
		}
	}
	var err error
	for rest := chosen; len(rest) > 0 && err == nil; {
		n := portion(rest)
		err = t.give(ctx, rest[:n])
		rest = rest[n:]
	}
	for _, c := range chosen {
		if c.task.record.State != Assigned || c.task.record.Agent != c.agent.id {
			delete(c.agent.tasks, c.task.id) // it was not written
		}
	}
	return err
}

// givenBytes bounds the payloads that are in memory at once.
const givenBytes = 8 << 20

// portion returns how many of chosen are to be given together.
func portion(chosen []assigned) int {
	bytes := 0
	for i, c := range chosen {
		if bytes += c.task.spec.PayloadBytes; bytes > givenBytes && i > 0 {
			return i
		}
	}
	return len(chosen)
}

// assigned is a task and the agent that is to run it.
type assigned struct {
	task  *task
	agent *agent
}

// give writes assignments.
func (t *term) give(ctx context.Context, chosen []assigned) (err error) {
	payloads, err := t.payloads(ctx, chosen)
	if err != nil {
		return err
	}
	var moves []move
	defer func() {
		for _, m := range moves {
			m.span.End(err) // of what was not written; the others have ended
		}
	}()
	for _, c := range chosen {
		k := c.task
		payload := found{data: k.spec.Payload}
		if k.spec.PayloadBytes > 0 {
			payload = payloads[k.spec.PayloadOf]
		}
		if payload.err != nil {
			m, err := t.moveTo(k, k.record.end(k.spec, Dead, payload.err.Error()))
			if err != nil {
				return err
			}
			moves = append(moves, m)
			continue
		}
		m, err := t.giving(c, payload.data)
		if err != nil {
			return err
		}
		moves = append(moves, m)
	}
	if err := t.perform(ctx, moves); err != nil || len(moves) == 0 {
		return err
	}
	return failpoint.Hit("dispatch-assigned")
}

// giving is the move that gives a task to its agent.
func (t *term) giving(c assigned, payload []byte) (move, error) {
	k := c.task
	next := k.record.assign(c.agent.id)
	m, err := t.moveTo(k, next)
	if err != nil {
		return m, err
	}
	span, traceparent := t.assigning(k.spec, next)
	value, err := encode(assignment{
		Schema: schema, Attempt: next.Attempt, Plugin: k.spec.Plugin, Capability: k.spec.Capability, Version: k.spec.Version,
		Payload: payload, Resume: next.Resume, Deadline: k.spec.Deadline, Timeout: k.spec.Timeout,
		Resumable: k.spec.Resumable, IdempotencyKey: k.spec.IdempotencyKey, Traceparent: traceparent,
	})
	if err != nil {
		span.End(err)
		return m, err
	}
	m.span = span
	m.compare = append(m.compare, clientv3.Compare(clientv3.CreateRevision(t.keys.worker(c.agent.id)), "=", c.agent.created))
	// Whatever lies there, nobody but the agent itself can have put it.
	m.put(t.keys.inbox(c.agent.id, k.id), value)
	return m, nil
}

// found is a payload, or why it is none.
type found struct {
	data []byte
	err  error
}

// payloads reads those that do not lie in their tasks.
func (t *term) payloads(ctx context.Context, chosen []assigned) (map[string]found, error) {
	payloads := map[string]found{}
	for _, c := range chosen {
		s := c.task.spec
		if _, known := payloads[s.PayloadOf]; known || s.PayloadBytes == 0 {
			continue
		}
		data, err := readPayload(ctx, t.client, t.keys, s.PayloadOf)
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errPayload) {
			return nil, err
		}
		payloads[s.PayloadOf] = found{data, err}
	}
	return payloads, nil
}

// newEra forgets what demands lead to.
func (m *model) newEra() {
	m.era++
	clear(m.demands)
}

// supply returns the agents that can take t.
func (m *model) supply(t *task) *supply {
	agents := m.working()
	if t.supply != nil && t.supply.era == m.era {
		return t.supply
	}
	key := demandKey(t.spec)
	if t.supply = m.demands[key]; t.supply != nil {
		return t.supply
	}
	if len(m.demands) >= maxDemands {
		m.newEra()
	}
	s := &supply{key: key, era: m.era}
	m.demands[key], t.supply = s, s
	wanted, err := newDemand(t.spec)
	if err != nil {
		return s
	}
	if id := t.spec.Pinned; id != "" {
		agents = nil
		if a := m.agents[id]; a != nil && a.info != nil {
			agents = []*agent{a}
		}
	}
	for _, a := range agents {
		if wanted.takes(a.info) {
			s.agents = append(s.agents, a)
		}
	}
	return s
}

// hasRoom reports whether an agent that t could go to had room when this step
// began.
func (m *model) hasRoom(t *task) bool {
	s := m.supply(t)
	if s.step != m.step {
		s.step = m.step
		s.full = !slices.ContainsFunc(s.agents, func(a *agent) bool { return a.room() > 0 })
	}
	return !s.full && (t.spec.Policy != Rendezvous || t.homeOf(s).room() > 0)
}

// homeOf is where rendezvous leads among the agents of s, of which there are
// some.
func (t *task) homeOf(s *supply) *agent {
	if t.home.of != s {
		t.home.of, t.home.agent = s, rendezvous(t.spec.Key, s.agents)
	}
	return t.home.agent
}

// fair reports whether the next assignment is for the task that has waited
// longest.
func (m *model) fair() bool { return m.given%fairEvery == fairEvery-1 }

// choose returns the agent that is to run t; nil = none can now.
func (m *model) choose(t *task) *agent {
	s := m.supply(t)
	if s.full || len(s.agents) == 0 {
		return nil
	}
	if t.spec.Policy == Rendezvous {
		if a := t.homeOf(s); a.room() > 0 {
			return a
		}
		return nil
	}
	var chosen *agent
	switch t.spec.Policy {
	case LeastLoaded:
		chosen = leastLoaded(s.agents, t.failedAt())
	case RoundRobin:
		if chosen = inTurn(s.agents, m.turns[s.key]); chosen != nil {
			if len(m.turns) >= maxDemands {
				clear(m.turns)
			}
			m.turns[s.key] = chosen.id
		}
	default:
		chosen = anyOf(s.agents, t.failedAt())
	}
	s.full = chosen == nil
	return chosen
}

// maxDemands bounds the demands that are remembered.
const maxDemands = 10_000

// failedAt is the agent where the last run failed, which is avoided if another
// one has room; "" = none.
func (t *task) failedAt() string {
	if n := len(t.record.Attempts); n > 0 && t.record.Attempts[n-1].Ended == endFailed {
		return t.record.Attempts[n-1].Agent
	}
	return ""
}

// anyOf returns an agent with room; not avoid, if there is another.
func anyOf(agents []*agent, avoid string) (found *agent) {
	first := rand.IntN(len(agents)) //nolint:gosec // any will do
	for i := range agents {
		a := agents[(first+i)%len(agents)]
		if a.room() <= 0 {
			continue
		}
		if found = a; a.id != avoid {
			return a
		}
	}
	return found
}

// inTurn returns the first agent with room after last, and then from the
// beginning.
func inTurn(agents []*agent, last string) *agent {
	first, _ := slices.BinarySearchFunc(agents, last+"\x00", func(a *agent, id string) int { return cmp.Compare(a.id, id) })
	for i := range agents {
		if a := agents[(first+i)%len(agents)]; a.room() > 0 {
			return a
		}
	}
	return nil
}

// leastLoaded returns the agent with room that has the least for what it runs
// at once; not avoid, if there is another.
func leastLoaded(agents []*agent, avoid string) *agent {
	var best, second *agent
	for _, a := range agents {
		switch {
		case a.room() <= 0:
		case a.id == avoid:
			second = a
		case best == nil || len(a.tasks)*best.info.Concurrency < len(best.tasks)*a.info.Concurrency:
			best = a
		}
	}
	if best == nil {
		return second
	}
	return best
}

// rendezvous returns the agent with the highest score for a key: where one goes,
// only its own keys move, and where one comes, only those that it gains.
func rendezvous(key string, agents []*agent) *agent {
	var best *agent
	var most uint64
	for _, a := range agents {
		if score := score(key, a.id); best == nil || score > most {
			best, most = a, score
		}
	}
	return best
}

// score is FNV-1a over key and agent, mixed so that each bit counts.
func score(key, agent string) uint64 {
	h := uint64(14695981039346656037)
	for _, part := range []string{key, "\x00", agent} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
