package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// section measures one figure.
type section struct {
	name, title string
	measure     func(context.Context, *bench) (figure, error)
}

func sections() []section {
	return []section{
		{"start", "start of a successor until its first answer, against bare tableflip", measureStart},
		{"idle", "memory and processor time of an idle agent without plugins", measureIdle},
		{"indicators", "processor time and allocations of the health indicators at their own pace", measureIndicators},
		{"readyz", "one look at /readyz, against a bare handler of net/http", measureReady},
		{"swap", "requests that fail in swaps of agentd under load, against bare tableflip", measureSwap},
		{"storm", "49 swaps in 20 s under load, the package upgrade against bare tableflip", measureStorm},
		{"latency", "p99 of requests in the second around a swap, against steady time", measureLatency},
		{"rollback", "death of a successor on probation until the incumbent answers", measureRollback},
		{"supervisor", "memory of the process that stays while agentd is replaced", measureSupervisor},
		{"config", "a changed document until a subscriber has it, against a raw etcd watch", measureConfig},
		{"fanout", "one write of 1 KiB until 1,000 followers have it, against raw etcd watches", measureFanout},
		{"rollout", "a mark's move until 10,000 agents have started, against raw etcd watches, and what a rollout costs its controller", measureRollout},
		{"configread", "reading the configuration in force, against a bare atomic pointer", measureConfigRead},
		{"oneagent", "memory and processor time of a lease, a watch and their client, against bare clientv3", measureOneAgent},
		{"rest", "what 10,000 simulated agents at rest cost etcd, against bare leases", measureRest},
		{"outage", "10,000 simulated agents and an etcd that is down for 20 s, against concurrency.Session", measureOutage},
		{"download", "download, check and staging of 64 MiB, against curl and sha256sum, and its memory", measureDownload},
		{"delta", "bytes moved from one agentd to the next, against zstd of the whole", measureDelta},
		{"cachecheck", "looks at what a cache has kept, without network, on one core", measureCacheCheck},
		{"plugin", "round trip of a plugin's Execute, against plain gRPC", measurePlugin},
		{"pluginstart", "start of a plugin until its first call, against a bare gRPC server's process", measurePluginStart},
		{"plugins200", "200 plugins on one host: their start, and its memory and processor time", measureManyPlugins},
		{"tasks", "10,000 tasks for 100 agents that are killed at random, against raw etcd transactions", measureTasks},
	}
}

// choose returns the sections that a comma-separated list names; all of them
// for an empty one.
func choose(only string) ([]section, error) {
	all := sections()
	if only == "" {
		return all, nil
	}
	wanted := strings.Split(only, ",")
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, usagef("--only: want some of %s, found %q", strings.Join(names, ","), name)
		}
	}
	return slices.DeleteFunc(all, func(s section) bool { return !slices.Contains(wanted, s.name) }), nil
}

// bench is one run.
type bench struct {
	quick    bool
	agents   int // that are simulated; 0 = as many as the figures are about
	keep     bool
	progress io.Writer

	dir      string
	built    map[string]bool // executables
	etcd     *server         // nil until it is needed
	servers  []*server
	sequence int
}

func (b *bench) run(ctx context.Context, chosen []section, r *reporter) (err error) {
	if runtime.GOOS == "windows" {
		return fmt.Errorf("bench wants a Unix system, found %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	if b.dir, err = os.MkdirTemp("", "perennial-bench-"); err != nil {
		return err
	}
	b.built = map[string]bool{}
	defer func() {
		for _, s := range slices.Backward(b.servers) {
			err = errors.Join(err, s.stop())
		}
		if b.keep {
			b.say("kept %s", b.dir)
		} else {
			err = errors.Join(err, os.RemoveAll(b.dir))
		}
	}()
	r.begin(thisMachine(b.quick))
	for _, s := range chosen {
		began := time.Now()
		b.say("%s: %s", s.name, s.title)
		f, err := s.measure(ctx, b)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		f.Name, f.Title, f.Load = s.name, s.title, loadAverage()
		if err := r.add(f); err != nil {
			return fmt.Errorf("the figures cannot be written: %w", err)
		}
		b.say("%s took %v", s.name, time.Since(began).Round(time.Second))
	}
	return r.end()
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, time.Now().Format("15:04:05")+" "+format+"\n", args...)
}

// times is how often something is repeated.
func (b *bench) times(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// fleet is how many agents are simulated.
func (b *bench) fleet() int {
	if b.agents > 0 {
		return b.agents
	}
	return b.times(10_000, 200)
}

// path names a new directory of this run and makes it.
func (b *bench) path(what string) (string, error) {
	b.sequence++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", what, b.sequence))
	return dir, os.Mkdir(dir, 0o700)
}

// startEtcd runs an etcd for all figures, at its first call.
func (b *bench) startEtcd(ctx context.Context) (url string, err error) {
	if b.etcd != nil {
		return b.etcd.url, nil
	}
	data, err := b.path("etcd")
	if err != nil {
		return "", err
	}
	if b.etcd, err = b.launchEtcd(ctx, data, "127.0.0.1:0"); err != nil {
		return "", err
	}
	return b.etcd.url, nil
}

// launchEtcd runs an etcd in a process of its own.
func (b *bench) launchEtcd(ctx context.Context, data, listen string) (*server, error) {
	agentd, err := b.build(ctx, "agentd", "")
	if err != nil {
		return nil, err
	}
	return b.launch(ctx, "etcd serves on ", agentd, "etcd", "--data", data, "--listen", listen)
}

// until waits for ok, which it asks every few milliseconds.
func until(ctx context.Context, what string, limit time.Duration, ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("want %s within %v, found it not so", what, limit)
		case <-tick.C:
		}
	}
	return nil
}
