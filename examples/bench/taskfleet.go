package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// taskFleet is agents and dispatchers, each a process.
type taskFleet struct {
	ctx         context.Context //nolint:containedctx // of the processes
	binary, url string
	dir         string // of what the agents ran
	sequence    int

	agents      []*taskProcess
	dispatchers []*taskProcess

	killed, unseated int
}

// taskProcess is one of them.
type taskProcess struct {
	cmd *exec.Cmd
	id  string // "" = a dispatcher
}

func (b *bench) startTaskFleet(ctx context.Context, url string) (*taskFleet, error) {
	binary, err := b.build(ctx, "bench/taskagent", "")
	if err != nil {
		return nil, err
	}
	dir, err := b.path("runs")
	return &taskFleet{ctx: ctx, binary: binary, url: url, dir: dir, dispatchers: make([]*taskProcess, 0, 3)}, err
}

func (t *taskFleet) start(id string) (*taskProcess, error) {
	t.sequence++
	instance := fmt.Sprintf("process-%05d", t.sequence)
	p := &taskProcess{id: id}
	p.cmd = exec.CommandContext(t.ctx, t.binary, "--etcd", t.url, "--agent", id, "--instance", instance,
		"--runs", filepath.Join(t.dir, instance), "--ttl", taskTTL.String())
	p.cmd.SysProcAttr = ownGroup() // an interrupt of the terminal is not theirs
	return p, p.cmd.Start()
}

func (t *taskFleet) addAgent() error {
	p, err := t.start(fmt.Sprintf("agent-%05d", t.sequence))
	if err == nil {
		t.agents = append(t.agents, p)
	}
	return err
}

func (t *taskFleet) addDispatcher() error {
	p, err := t.start("")
	if err == nil {
		t.dispatchers = append(t.dispatchers, p)
	}
	return err
}

// kill ends the process as a failure of its host does.
func (p *taskProcess) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // that it was killed
	return err
}

// killAgent kills one at random. Every second one comes back at once, as a
// service manager has it; for the other one another comes.
func (t *taskFleet) killAgent() error {
	i := rand.IntN(len(t.agents)) //nolint:gosec // no secret
	id := t.agents[i].id
	if err := t.agents[i].kill(); err != nil {
		return err
	}
	if t.killed++; t.killed%2 == 0 {
		id = fmt.Sprintf("agent-%05d", t.sequence)
	}
	var err error
	t.agents[i], err = t.start(id)
	return err
}

func (t *taskFleet) killDispatcher() error {
	i := rand.IntN(len(t.dispatchers)) //nolint:gosec // no secret
	if err := t.dispatchers[i].kill(); err != nil {
		return err
	}
	t.unseated++
	var err error
	t.dispatchers[i], err = t.start("")
	return err
}

// await waits until n agents take tasks.
func (t *taskFleet) await(ctx context.Context, queue *dispatch.Queue, n int) (err error) {
	return errors.Join(until(ctx, fmt.Sprintf("%d agents take tasks", n), 2*startLimit, func() bool {
		var workers []dispatch.WorkerInfo
		workers, err = queue.Workers(ctx)
		return err == nil && len(workers) == n
	}), err)
}

// stop ends all of it; it may be called again.
func (t *taskFleet) stop() (err error) {
	for _, p := range append(t.agents, t.dispatchers...) {
		err = errors.Join(err, p.kill())
	}
	t.agents, t.dispatchers = nil, nil
	return err
}

// runs counts how often the tasks were begun, by the agents' own books.
func (t *taskFleet) runs(ids []string) (int, error) {
	files, err := filepath.Glob(filepath.Join(t.dir, "*"))
	if err != nil {
		return 0, err
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id] = true
	}
	n := 0
	for _, path := range files {
		for id := range strings.FieldsSeq(readText(path)) {
			if wanted[id] {
				n++
			}
		}
	}
	return n, nil
}

// taskHistory is what all changes of the tasks' keys tell.
type taskHistory struct {
	succeeded map[string]bool
	again     int // claims and outcomes of tasks that had been acknowledged
}

// readHistory reads every change from etcd's first on, with none of the code
// that made them.
func readHistory(ctx context.Context, c *clientv3.Client) (*taskHistory, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*startLimit)
	defer cancel()
	prefix := dispatch.Prefix("")
	end, err := c.Put(ctx, prefix+"end-of-bench", "")
	if err != nil {
		return nil, err
	}
	h := &taskHistory{succeeded: map[string]bool{}}
	for w := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := w.Err(); err != nil {
			return nil, err
		}
		for _, e := range w.Events {
			if e.Kv.ModRevision >= end.Header.Revision {
				return h, nil
			}
			if e.Type == clientv3.EventTypePut {
				h.put(strings.TrimPrefix(string(e.Kv.Key), prefix), e.Kv.Value)
			}
		}
	}
	return nil, fmt.Errorf("the history was not read to its end: %w", ctx.Err())
}

func (h *taskHistory) put(key string, value []byte) {
	kind, rest, _ := strings.Cut(key, "/")
	_, id, _ := strings.Cut(rest, "/")
	switch kind {
	case "claim":
		if h.succeeded[id] {
			h.again++
		}
	case "outcome":
		var outcome struct{ Ended string }
		if json.Unmarshal(value, &outcome) != nil || outcome.Ended != "succeeded" {
			return
		}
		if h.succeeded[id] {
			h.again++
		}
		h.succeeded[id] = true
	}
}

// lost counts the tasks that nobody has acknowledged.
func (h *taskHistory) lost(ids []string) int {
	n := 0
	for _, id := range ids {
		if !h.succeeded[id] {
			n++
		}
	}
	return n
}
