package dispatch

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// model is what a dispatcher knows: the tasks that are not finished, and the
// agents. Its own writes are in it at once; what etcd tells of them later, and
// of what was before them, changes nothing.
type model struct {
	keys keys
	log  *slog.Logger

	tasks    map[string]*task
	queued   map[string]*task
	agents   map[string]*agent
	children map[string]map[string]*task // unfinished runs by parent
	outcomes map[string]*told            // by agent/id
	strange  map[string]bool             // tasks that are to be read
	gone     map[string]int64            // finished by this dispatcher at a revision
	demands  map[string]*supply
	era      int               // counts what made demands obsolete
	step     int               // of assigning
	given    int               // assignments so far
	turns    map[string]string // of round-robin: who had the last, by demand
	ready    []*agent          // sorted by id; nil = to be made anew
}

// task is one that is not finished. It is whole once it has both parts.
type task struct {
	id         string
	spec       *spec
	record     *record
	created    int64 // revision: the order of submission
	revision   int64 // of the record
	checked    time.Time
	refused    int64   // revision of the record of which etcd refused a move
	cancelTold bool    // its agent knows that it is to be cancelled
	supply     *supply // of its demand, in an era
	// Where rendezvous leads, among the agents of a supply.
	home struct {
		of    *supply
		agent *agent
	}
}

func (t *task) whole() bool { return t.spec != nil && t.record != nil }

// agent is one that has tasks or takes them.
type agent struct {
	id      string
	info    *WorkerInfo // nil = it takes no tasks now
	created int64       // revision of its key
	missing time.Time   // since when it is away
	left    bool        // it has been away for longer than the grace
	tasks   map[string]*task
}

func (a *agent) room() int { return a.info.Room - len(a.tasks) }

// told is an outcome that an agent has written.
type told struct {
	agent, id string
	outcome   *outcome
	revision  int64
}

func newModel(k keys, log *slog.Logger) *model {
	return &model{
		keys: k, log: log, tasks: map[string]*task{}, queued: map[string]*task{}, agents: map[string]*agent{},
		children: map[string]map[string]*task{}, outcomes: map[string]*told{}, gone: map[string]int64{}, strange: map[string]bool{},
		demands: map[string]*supply{}, turns: map[string]string{},
	}
}

// apply takes over what a key has become.
func (m *model) apply(e event) {
	k := m.keys
	switch {
	case strings.HasPrefix(e.key, k.states()):
		if id, ok := below(k.states(), e.key); ok {
			m.applyState(id, e)
		}
	case strings.HasPrefix(e.key, k.specs()): // only of refresh
		if id, ok := below(k.specs(), e.key); ok {
			m.applySpec(id, e)
		}
	case strings.HasPrefix(e.key, k.workers()):
		if id := strings.TrimPrefix(e.key, k.workers()); etcdkv.ValidID(id) == nil {
			m.applyWorker(id, e)
		}
	case strings.HasPrefix(e.key, k.outcomes()):
		if agent, id, ok := belowAgent(k.outcomes(), e.key); ok {
			m.applyOutcome(agent, id, e)
		}
	}
}

func (m *model) applyState(id string, e event) {
	t := m.tasks[id]
	if e.value == nil {
		if t != nil && t.revision <= e.seen {
			m.set(t, nil, e.seen)
		}
		return
	}
	if e.value.ModRevision <= m.gone[id] || t != nil && e.value.ModRevision <= t.revision {
		return // older than what this dispatcher wrote
	}
	r := &record{}
	if err := decode(e.key, e.value.Data, r); err != nil {
		m.log.Warn("a task cannot be read and is left alone", "error", err)
		r = nil
	}
	t = m.task(id)
	t.created = e.value.CreateRevision
	m.set(t, r, e.value.ModRevision)
	if t.spec == nil {
		m.strange[id] = true
	}
}

func (m *model) applySpec(id string, e event) {
	t := m.tasks[id]
	if t == nil || t.spec != nil || e.value == nil {
		return
	}
	s := &spec{}
	if err := decode(e.key, e.value.Data, s); err != nil || s.ID != id {
		m.log.Warn("a task cannot be read and is left alone", "task", id, "error", err)
		return
	}
	t.spec = s
	m.set(t, t.record, t.revision)
}

// suspects returns the tasks to be read anew: those whose specs are not known,
// those whose last write was not answered, and those that have been assigned for
// long. Of these a watch says nothing if it was broken from their creation to
// their end, and they would take their agents' room for ever.
func (m *model) suspects(at time.Time) []string {
	ids := slices.Collect(maps.Keys(m.strange))
	for _, a := range m.agents {
		for _, t := range a.tasks {
			if at.Sub(t.checked) > checkEvery && !m.strange[t.id] {
				ids = append(ids, t.id)
			}
		}
	}
	return ids
}

// checkedAt is called when suspects have been read.
func (m *model) checkedAt(ids []string, at time.Time) {
	for _, id := range ids {
		delete(m.strange, id)
		if t := m.tasks[id]; t != nil {
			t.checked = at
		}
	}
}

// checkEvery is how long an assigned task is believed to be that without a word.
const checkEvery = 30 * time.Second

// task returns the task called id, which may be new.
func (m *model) task(id string) *task {
	t := m.tasks[id]
	if t == nil {
		t = &task{id: id}
		m.tasks[id] = t
	}
	return t
}

// set gives a task its next record, as of a revision; one that is finished, or
// nil where there was one, ends it.
func (m *model) set(t *task, r *record, revision int64) {
	if t.record != nil && t.record.State == Assigned {
		delete(m.agent(t.record.Agent).tasks, t.id)
	}
	delete(m.queued, t.id)
	if r == nil && t.record != nil || r != nil && r.State.Finished() {
		m.gone[t.id] = revision
		delete(m.tasks, t.id)
		if parent, _, is := strings.Cut(t.id, "."); is {
			if delete(m.children[parent], t.id); len(m.children[parent]) == 0 {
				delete(m.children, parent)
			}
		}
		delete(m.children, t.id)
		return
	}
	if r != nil && r.State == Queued {
		t.cancelTold = false
	}
	t.record, t.revision, t.checked = r, revision, time.Now()
	m.tasks[t.id] = t
	if parent, _, is := strings.Cut(t.id, "."); is {
		if m.children[parent] == nil {
			m.children[parent] = map[string]*task{}
		}
		m.children[parent][t.id] = t
	}
	if !t.whole() {
		return
	}
	switch r.State {
	case Queued:
		m.queued[t.id] = t
	case Assigned:
		m.agent(r.Agent).tasks[t.id] = t
	default: // it waits for its runs
	}
}

// agent returns the agent called id, which may be new.
func (m *model) agent(id string) *agent {
	a := m.agents[id]
	if a == nil {
		a = &agent{id: id, tasks: map[string]*task{}, missing: time.Now()}
		m.agents[id] = a
	}
	return a
}

func (m *model) applyWorker(id string, e event) {
	a := m.agent(id)
	m.ready = nil
	if e.value == nil {
		if a.info != nil {
			a.info, a.missing = nil, time.Now()
		}
		return
	}
	info, err := readWorker(m.keys.workers(), e.key, e.value.Data)
	if err != nil {
		// It is there, and gets nothing.
		m.log.Warn("an agent gets no tasks", "error", err)
		info = WorkerInfo{Agent: id}
	}
	a.info, a.created, a.missing, a.left = &info, e.value.CreateRevision, time.Time{}, false
}

func (m *model) applyOutcome(agent, id string, e event) {
	key := agent + "/" + id
	if e.value == nil {
		delete(m.outcomes, key)
		return
	}
	o := &outcome{}
	if err := decode(e.key, e.value.Data, o); err != nil {
		// The agent has said something, and will not say anything else.
		o = &outcome{Schema: schema, Ended: endFailed, Error: clip(err.Error()), Started: now(), Finished: now()}
	}
	m.outcomes[key] = &told{agent, id, o, e.value.ModRevision}
}

// forget drops what was kept against events of before a revision, which have
// all been told.
func (m *model) forget(seen int64) {
	for id, revision := range m.gone {
		if revision <= seen {
			delete(m.gone, id)
		}
	}
}

// presence finds out which agents have been away for too long.
func (m *model) presence(at time.Time, grace time.Duration) {
	for id, a := range m.agents {
		if a.info != nil {
			continue
		}
		if a.left = at.Sub(a.missing) >= grace; a.left && len(a.tasks) == 0 {
			delete(m.agents, id)
		}
	}
}

// working returns the agents that take tasks, sorted.
func (m *model) working() []*agent {
	if m.ready == nil {
		m.ready = []*agent{}
		for _, a := range m.agents {
			if a.info != nil {
				m.ready = append(m.ready, a)
			}
		}
		slices.SortFunc(m.ready, func(a, b *agent) int { return strings.Compare(a.id, b.id) })
		m.newEra()
	}
	return m.ready
}

// wait returns how long nothing is to do if nothing changes.
func (m *model) wait(at time.Time, grace time.Duration, collect time.Time) time.Duration {
	next := at.Add(lookEvery)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.After(at) && t.Before(next) {
			next = t
		}
	}
	sooner(collect)
	for _, t := range m.queued {
		sooner(t.record.Next)
		sooner(t.spec.NotBefore)
		sooner(t.spec.Deadline)
	}
	for _, a := range m.agents {
		if a.info == nil {
			sooner(a.missing.Add(grace))
		}
		for _, t := range a.tasks {
			sooner(t.cutBy())
		}
	}
	return next.Sub(at) + time.Millisecond
}

// cutBy is when the agent has had its time to cut off the task; zero = never.
func (t *task) cutBy() time.Time {
	if t.spec.Deadline.IsZero() {
		return time.Time{}
	}
	return t.spec.Deadline.Add(answerWithin)
}
