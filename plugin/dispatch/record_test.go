package dispatch

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func TestTaskThatIsMovedForEverKeepsItsNewestResults(t *testing.T) {
	r := &record{State: Assigned, Resume: resume{Number: 100}}
	for i := range maxSegments {
		r.Segments = append(r.Segments, segment{fmt.Sprint("agent-", i%2), int64(i + 1)})
	}
	s := &spec{Task: Task{ID: "t"}}
	next := r.ended(s, &outcome{Ended: endReleased, Resume: r.Resume, Last: r.Resume})
	if next.State != Queued || len(next.Segments) != maxSegments-1 || next.Segments[0].From != 2 || !next.Resume.Cut {
		t.Fatalf("got %+v", next)
	}
	if again := next.assign("agent-0"); again.check() != nil || len(again.Segments) != maxSegments {
		t.Errorf("got %+v, %v", again, again.check())
	}
	k, err := newKeys("")
	if err != nil {
		t.Fatal(err)
	}
	term := &term{Dispatcher: &Dispatcher{keys: k}}
	r.Agent = "agent-1"
	m := move{task: &task{id: "t", spec: s, record: r}, next: next}
	term.clear(&m)
	last := m.ops[len(m.ops)-1]
	if from, to := string(last.KeyBytes()), string(last.RangeBytes()); from != k.result("agent-0", "t", 1) || to != k.result("agent-0", "t", 2) {
		t.Errorf("deletes from %s to %s", from, to)
	}
}

func TestWhatNobodyHasRoomForIsNotSorted(t *testing.T) {
	k, err := newKeys("")
	if err != nil {
		t.Fatal(err)
	}
	m := newModel(k, slog.New(slog.DiscardHandler))
	m.agents["a"] = &agent{id: "a", tasks: map[string]*task{}, info: &WorkerInfo{Agent: "a", Room: 1, Plugins: []WorkerPlugin{{Name: "p", Version: "1.0.0", Capabilities: []string{"do", "other"}}}}}
	add := func(id string, s Task) *task {
		s.ID = id
		one := &task{id: id, spec: &spec{Task: s}, created: int64(len(m.tasks))}
		m.set(one, &record{State: Queued}, 1)
		return one
	}
	nobody := add("nobody", Task{Capability: "missing"})
	pinned := add("pinned", Task{Capability: "do"})
	pinned.spec.Pinned = "b"
	for i := range maxDemands + 10 { // each a demand of its own
		add(fmt.Sprint("t", i), Task{Capability: "do", Selector: fmt.Sprintf("x!=%d", i)})
	}
	m.step++
	due := m.due(time.Now())
	if n := due.urgent.Len(); n != maxDemands+10 || len(m.demands) > maxDemands {
		t.Errorf("%d tasks are due, %d demands are remembered", n, len(m.demands))
	}
	for one := due.next(false); one != nil; one = due.next(true) {
		if one == nobody || one == pinned {
			t.Errorf("%s is handed out", one.id)
		}
	}
	m.agents["a"].tasks["full"] = &task{}
	m.step++
	if n := m.due(time.Now()).urgent.Len(); n != 0 {
		t.Errorf("%d tasks are due where there is no room", n)
	}
}

func TestBackoffOfATaskDoublesUpToItsBound(t *testing.T) {
	retry := Retry{MinBackoff: time.Second, MaxBackoff: 10 * time.Second}
	for failures, most := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 100: 10 * time.Second} {
		for range 50 {
			if d := retry.wait(failures); d < most/2 || d > most {
				t.Fatalf("after %d failures %s, want %s to %s", failures, d, most/2, most)
			}
		}
	}
}

// The table is what docs/formats.md says.
func TestNothingLeadsBackFromSuccess(t *testing.T) {
	all := []State{Queued, Assigned, Spread, Succeeded, Dead, Cancelled, Expired}
	for _, from := range []State{Succeeded, Expired} {
		for _, to := range all {
			if from.mayBecome(to) {
				t.Errorf("%s may become %s", from, to)
			}
		}
	}
	k, err := newKeys("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.move("t", &record{State: Succeeded}, &record{State: Queued}, 1); err == nil {
		t.Error("a task that has succeeded can be queued")
	}
}
