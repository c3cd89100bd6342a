package killtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// submitter queues tasks, each until it is there, and sees how they are
// acknowledged.
type submitter struct {
	client *clientv3.Client
	queue  *dispatch.Queue
	d      dice
	keys   []string // of what was submitted

	mu    sync.Mutex
	acked map[string]time.Time // by the task's id: when its success was seen
}

func newSubmitter(client *clientv3.Client, d dice) (*submitter, error) {
	q, err := dispatch.NewQueue(dispatch.QueueConfig{Client: client})
	return &submitter{client: client, queue: q, d: d, acked: map[string]time.Time{}}, err
}

func (s *submitter) submit(ctx context.Context) error {
	for n := 1; wait(ctx, s.d.between(10*time.Millisecond, 150*time.Millisecond)); n++ {
		task := s.task(n)
		s.keys = append(s.keys, task.IdempotencyKey)
		// Also when the time is over: what has been asked for once may be there.
		for {
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			_, err := s.queue.Submit(limited, task)
			cancel()
			if err == nil {
				break
			}
			if errors.Is(err, dispatch.ErrInvalid) || errors.Is(err, dispatch.ErrConflict) {
				return err
			}
			if !wait(context.WithoutCancel(ctx), 50*time.Millisecond) {
				return err
			}
		}
	}
	return nil
}

func (s *submitter) task(n int) dispatch.Task {
	seconds := s.d.Float64() / 4
	if s.d.percent(5) {
		seconds *= 15
	}
	t := dispatch.Task{
		Plugin: "exec", IdempotencyKey: fmt.Sprintf("key-%d", n),
		Payload: fmt.Appendf(nil, `{"command":"work","params":{"seconds":"%.2f"}}`, seconds),
		Policy:  []dispatch.Policy{dispatch.Any, dispatch.RoundRobin, dispatch.LeastLoaded, dispatch.Rendezvous}[s.d.IntN(4)],
		Retry:   dispatch.Retry{Max: dispatch.MaxRetries, MinBackoff: 50 * time.Millisecond, MaxBackoff: time.Second},
	}
	if t.Policy == dispatch.Rendezvous {
		t.Key = strconv.Itoa(n % 7)
	}
	return t
}

// watch notes outcomes as they are written, until ctx ends.
func (s *submitter) watch(ctx context.Context) error {
	for r := range s.client.Watch(ctx, "/agents/tasks/outcome/", clientv3.WithPrefix()) {
		if err := r.Err(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the watch of outcomes: %w", err)
		}
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypePut && strings.Contains(string(e.Kv.Value), `"ended":"succeeded"`) {
				s.mu.Lock()
				s.acked[filepath.Base(string(e.Kv.Key))] = time.Now()
				s.mu.Unlock()
			}
		}
	}
	return nil
}

// unfinished is how many of the tasks have not ended.
func (s *submitter) unfinished(ctx context.Context) (int, error) {
	list, err := s.queue.List(ctx, dispatch.Filter{Limit: -1})
	n := 0
	for _, t := range list {
		if !t.State.Finished() {
			n++
		}
	}
	return n, err
}

// run is one that a command has noted.
type run struct {
	attempt int // how often it may have been begun before
	began   time.Time
}

// ledger reads what the commands have noted, by the tasks' keys.
func ledger(path string) (map[string][]run, error) {
	text, err := os.ReadFile(path)
	runs := map[string][]run{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: %q", path, line)
		}
		attempt, errA := strconv.Atoi(f[1])
		began, errB := strconv.ParseInt(f[2], 10, 64)
		if err := errors.Join(errA, errB); err != nil {
			return nil, err
		}
		runs[f[0]] = append(runs[f[0]], run{attempt, time.Unix(0, began)})
	}
	return runs, err
}

// judge says what is wrong with the tasks, and how many runs came to nothing.
func (s *submitter) judge(ctx context.Context, runs map[string][]run) (faults []string, again int, err error) {
	list, err := s.queue.List(ctx, dispatch.Filter{Limit: -1})
	if err != nil {
		return nil, 0, err
	}
	tasks := map[string]dispatch.Info{}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, t := range list {
		if other, twice := tasks[t.IdempotencyKey]; twice {
			fault("%s is two tasks: %s and %s", t.IdempotencyKey, other.ID, t.ID)
		}
		tasks[t.IdempotencyKey] = t
	}
	for _, key := range s.keys {
		t, there := tasks[key]
		if !there {
			fault("%s is lost", key)
			continue
		}
		succeeded := 0
		for _, a := range t.Attempts {
			if a.Ended == "succeeded" {
				succeeded++
			}
		}
		if t.State != dispatch.Succeeded || succeeded != 1 {
			fault("%s is %s with %d successes: %s %+v", key, t.State, succeeded, t.Error, t.Attempts)
			continue
		}
		if len(runs[key]) == 0 {
			fault("%s succeeded and was not run", key)
		}
		again += max(0, len(runs[key])-1)
		s.mu.Lock()
		acked, seen := s.acked[t.ID]
		s.mu.Unlock()
		if !seen {
			fault("%s succeeded without an outcome", key)
		}
		first := 0
		for _, r := range runs[key] {
			if r.attempt == 0 {
				first++
			}
			if seen && r.began.After(acked) {
				fault("%s was begun at %s after it had been acknowledged at %s", key, r.began, acked)
			}
		}
		if first > 1 {
			fault("%s was told %d times that it had not been begun before", key, first)
		}
	}
	return faults, again, nil
}
