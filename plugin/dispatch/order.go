package dispatch

import (
	"container/heap"
	"slices"
	"time"
)

// fairEvery: of so many assignments one is for the task that has waited
// longest, so that what is less urgent comes to its turn however much there is
// that is more.
const fairEvery = 10

// order hands out tasks in the order in which they are to be assigned. It sorts
// no more of them than are asked for.
type order struct {
	urgent, oldest ranking
	out            map[*task]bool // handed out
}

// due returns the queued tasks that may begin and that some agent has room for.
func (m *model) due(at time.Time) *order {
	var tasks []*task
	for _, t := range m.queued {
		if !t.record.Next.After(at) && !t.spec.NotBefore.After(at) && !t.spec.late() && m.hasRoom(t) {
			tasks = append(tasks, t)
		}
	}
	o := &order{urgent: ranking{tasks, moreUrgent}, out: map[*task]bool{}}
	heap.Init(&o.urgent)
	return o
}

// next returns the next task; nil = there is none. fair wants the one that has
// waited longest.
func (o *order) next(fair bool) *task {
	r := &o.urgent
	if fair {
		if r = &o.oldest; r.before == nil {
			*r = ranking{slices.Clone(o.urgent.tasks), older}
			heap.Init(r)
		}
	}
	for len(r.tasks) > 0 {
		if t, ok := heap.Pop(r).(*task); ok && !o.out[t] {
			o.out[t] = true
			return t
		}
	}
	return nil
}

func moreUrgent(a, b *task) bool {
	if a.spec.Priority != b.spec.Priority {
		return a.spec.Priority > b.spec.Priority
	}
	return older(a, b)
}

func older(a, b *task) bool {
	if a.created != b.created {
		return a.created < b.created
	}
	return a.id < b.id
}

// ranking is a heap of tasks.
type ranking struct {
	tasks  []*task
	before func(a, b *task) bool
}

func (r *ranking) Len() int           { return len(r.tasks) }
func (r *ranking) Less(i, j int) bool { return r.before(r.tasks[i], r.tasks[j]) }
func (r *ranking) Swap(i, j int)      { r.tasks[i], r.tasks[j] = r.tasks[j], r.tasks[i] }

// Push implements heap.Interface; nothing is pushed.
func (r *ranking) Push(x any) {
	if t, ok := x.(*task); ok {
		r.tasks = append(r.tasks, t)
	}
}

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(r.tasks) - 1
	t := r.tasks[last]
	r.tasks = r.tasks[:last]
	return t
}
