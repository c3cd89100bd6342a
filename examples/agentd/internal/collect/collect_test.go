package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/examples/internal/spool"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter is a plugin that yields {"n":i} from its cursor on and fails as
// told; the real plugins are exercised by agentd's own tests.
type counter struct {
	mu       sync.Mutex
	statuses []plugin.Status
	tasks    []plugin.Task
	each     int   // results before the task ends
	end      error // what the task then returns; nil with each 0 waits for ctx
	payload  func(n int) string
}

func (c *counter) List() []plugin.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]plugin.Status(nil), c.statuses...)
}

func (c *counter) Execute(ctx context.Context, name string, t plugin.Task, f func(plugin.Result) error) error {
	c.mu.Lock()
	c.tasks = append(c.tasks, t)
	each, end, payload := c.each, c.end, c.payload
	c.mu.Unlock()
	at := 0
	if t.Cursor != "" {
		var err error
		if at, err = strconv.Atoi(t.Cursor); err != nil {
			return err
		}
	}
	for i := range each {
		text := fmt.Sprintf(`{"n":%d}`, at+i)
		if payload != nil {
			text = payload(at + i)
		}
		if err := f(plugin.Result{Payload: []byte(text), Cursor: strconv.Itoa(at + i + 1)}); err != nil {
			return err
		}
	}
	if end != nil {
		return end
	}
	<-ctx.Done()
	return ctx.Err()
}

func (c *counter) executed() []plugin.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]plugin.Task(nil), c.tasks...)
}

func collects(name string) []plugin.Status {
	return []plugin.Status{{Name: name, State: plugin.Running, Capabilities: []string{Capability}}}
}

type bench struct {
	spool string
	waits chan struct{} // closed once it waits for another collector
	stop  func()
}

// start runs a collector with short waits; stop, or the end of the test,
// ends and joins it.
func start(t *testing.T, dir string, plugins *counter, edit func(*Config)) *bench {
	t.Helper()
	s, err := spool.New(spool.Config{Dir: filepath.Join(dir, "spool")})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Plugins: plugins, Spool: s, Dir: filepath.Join(dir, "cursors")}
	if edit != nil {
		edit(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.every, c.minDelay, c.maxDelay = time.Millisecond, time.Millisecond, 2*time.Millisecond
	waits := make(chan struct{})
	c.blocked = func() { close(waits) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	b := &bench{spool: filepath.Join(dir, "spool"), waits: waits}
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *bench) numbers(t *testing.T) map[int]int {
	t.Helper()
	got := map[int]int{}
	_, err := spool.Read(b.spool, func(record []byte) error {
		var r struct{ N int }
		err := json.Unmarshal(record, &r)
		got[r.N]++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func exactlyOnce(t *testing.T, got map[int]int, atLeast int) {
	t.Helper()
	if len(got) < atLeast {
		t.Errorf("%d records, want at least %d", len(got), atLeast)
	}
	for n := range len(got) {
		if got[n] != 1 {
			t.Errorf("record %d is there %d times", n, got[n])
		}
	}
}

func TestInterruptedTaskResumesAtItsCursor(t *testing.T) {
	p := &counter{statuses: collects("p"), each: 7, end: plugin.ErrInterrupted}
	b := start(t, t.TempDir(), p, nil)
	waittest.Until(t, "five tasks", func() bool { return len(p.executed()) > 5 })
	b.stop()
	exactlyOnce(t, b.numbers(t), 28)
}

func TestRestartedAgentResumesAtItsCursor(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		p := &counter{statuses: collects("p"), each: 10}
		b := start(t, dir, p, nil)
		waittest.Until(t, "ten records", func() bool { return len(b.numbers(t)) >= 10*(round+1) })
		b.stop()
		exactlyOnce(t, b.numbers(t), 10*(round+1))
	}
}

func TestFailedSpoolLeavesTheCursorWhereItWas(t *testing.T) {
	dir := t.TempDir()
	p := &counter{statuses: collects("p"), each: 3}
	var closed *spool.Spool
	b := start(t, dir, p, func(cfg *Config) {
		closed = cfg.Spool
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
	})
	waittest.Until(t, "three attempts", func() bool { return len(p.executed()) >= 3 })
	b.stop()
	for _, task := range p.executed() {
		if task.Cursor != "" {
			t.Errorf("the cursor moved to %q although nothing was stored", task.Cursor)
		}
	}
}

func TestSecondCollectorWaitsForTheFirst(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no hot swap, and so no second collector, on Windows")
	}
	dir := t.TempDir()
	old := start(t, dir, &counter{statuses: collects("p"), each: 5}, nil)
	waittest.Until(t, "the first five", func() bool { return len(old.numbers(t)) == 5 })
	next := &counter{statuses: collects("p"), each: 5}
	b := start(t, dir, next, nil)
	select {
	case <-b.waits:
	case <-time.After(10 * time.Second):
		t.Fatal("the second collector does not wait for the first")
	}
	if n := len(next.executed()); n != 0 {
		t.Errorf("the second collector ran %d tasks beside the first", n)
	}
	old.stop()
	waittest.Until(t, "five more", func() bool { return len(b.numbers(t)) == 10 })
	b.stop()
	exactlyOnce(t, b.numbers(t), 10)
}

func TestOnlyWantedPluginsAreAsked(t *testing.T) {
	p := &counter{statuses: append(collects("on"),
		plugin.Status{Name: "off", Capabilities: []string{Capability}},
		plugin.Status{Name: "other", Capabilities: []string{"scan"}},
	), each: 1}
	var mu sync.Mutex
	payload := `{"v":1}`
	b := start(t, t.TempDir(), p, func(cfg *Config) {
		cfg.Settings = func(name string) ([]byte, bool) {
			mu.Lock()
			defer mu.Unlock()
			return []byte(payload), name == "on"
		}
	})
	waittest.Until(t, "a task", func() bool { return len(p.executed()) == 1 })
	mu.Lock()
	payload = `{"v":2}`
	mu.Unlock()
	waittest.Until(t, "a second task, for the new settings", func() bool { return len(p.executed()) == 2 })
	p.mu.Lock()
	p.statuses = nil
	p.mu.Unlock()
	b.stop()
	tasks := p.executed()
	if string(tasks[0].Payload) != `{"v":1}` || string(tasks[1].Payload) != `{"v":2}` || tasks[1].Cursor != "1" {
		t.Errorf("tasks %+v, want the settings as payload and the cursor kept", tasks)
	}
	exactlyOnce(t, b.numbers(t), 2)
}

func TestResultThatIsNoRecordDoesNotBlockTheRest(t *testing.T) {
	p := &counter{statuses: collects("p"), each: 3, payload: func(n int) string {
		if n == 1 {
			return "not json"
		}
		return fmt.Sprintf(`{"n":%d}`, n)
	}}
	b := start(t, t.TempDir(), p, nil)
	waittest.Until(t, "two records", func() bool { return len(b.numbers(t)) == 2 })
	b.stop()
	if got := b.numbers(t); got[0] != 1 || got[2] != 1 {
		t.Errorf("found %v, want 0 and 2", got)
	}
}

func TestUnusableCursorIsNoFreshStart(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "cursors", "p.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(state), 0o700), os.WriteFile(state, []byte(`{"schema":2,"mark":"4"}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	var log waittest.Log
	p := &counter{statuses: collects("p"), each: 3}
	b := start(t, dir, p, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	waittest.Until(t, "it says so", func() bool { return log.Count("p.json: want schema 1, found 2") > 3 })
	b.stop()
	if n := len(p.executed()); n != 0 {
		t.Errorf("the plugin was asked %d times", n)
	}
}

func TestUnfinishedCursorFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "cursors", ".tmp-p.json-1")
	if err := errors.Join(os.Mkdir(filepath.Dir(left), 0o700), os.WriteFile(left, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	start(t, dir, &counter{}, nil)
	waittest.Until(t, "it is gone", func() bool {
		_, err := os.Stat(left)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestRecordsWithoutTheirCursorAreCutOff: the process was killed after it had
// stored records and before their cursor, which the plugin therefore yields
// again.
func TestRecordsWithoutTheirCursorAreCutOff(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, &counter{statuses: collects("p"), each: 5}, nil)
	waittest.Until(t, "five records", func() bool { return len(b.numbers(t)) == 5 })
	b.stop()
	files, err := filepath.Glob(filepath.Join(b.spool, "*-p.ndjson"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one file of the plugin, found %q, %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("{\"n\":5}\n{\"n\":6}\n{\"n\"")
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	b = start(t, dir, &counter{statuses: collects("p"), each: 5}, nil)
	waittest.Until(t, "five more", func() bool { return len(b.numbers(t)) == 10 })
	b.stop()
	exactlyOnce(t, b.numbers(t), 10)
}

func TestRetryGrowsToItsBoundAndResets(t *testing.T) {
	r := retry{min: 100, max: 1000}
	for i, bound := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if d := r.next(); d < bound/2 || d > bound {
			t.Errorf("wait %d is %v, want %v to %v", i, d, bound/2, bound)
		}
	}
	r.reset()
	if d := r.next(); d > 100 {
		t.Errorf("wait after reset is %v, want at most 100ns", d)
	}
}

func TestNewRefusesMissingParts(t *testing.T) {
	if _, err := New(Config{}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("New = %v, want a refusal", err)
	}
}
