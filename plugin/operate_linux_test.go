package plugin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// stream is a call of Execute whose consumer takes one result and then waits.
type stream struct {
	goOn chan struct{}
	err  chan error
	got  int // to be read after err
}

func (h *host) stream(tb testing.TB, task plugin.Task) *stream {
	tb.Helper()
	s := &stream{goOn: make(chan struct{}), err: make(chan error, 1)}
	first := make(chan struct{})
	go func() {
		s.err <- h.Execute(context.Background(), "probe", task, func(plugin.Result) error {
			s.got++
			if s.got == 1 {
				close(first)
				<-s.goOn
			}
			return nil
		})
	}()
	waittest.Next(tb, "the first result", first)
	return s
}

func (h *host) restart(tb testing.TB) error {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return h.Restart(ctx, "probe")
}

func TestRestartMovesNewCallsAndLetsOldOnesFinish(t *testing.T) {
	t.Parallel()
	h, old := startProbe(t, func(c *plugin.Config) { c.DrainTimeout = waittest.Patience })
	if old.Generation != 1 || old.Protocol != 1 || old.OpenTasks != 0 {
		t.Errorf("the first generation: %+v", old)
	}
	done := filepath.Join(t.TempDir(), "done")
	finishing := h.stream(t, plugin.Task{Capability: "until", Payload: []byte(done)})
	close(finishing.goOn)
	moving := h.stream(t, plugin.Task{Capability: "count", Resumable: true})
	if s := h.status("probe"); s.OpenTasks != 2 {
		t.Errorf("want 2 open tasks, found %+v", s)
	}
	if err := h.restart(t); err != nil {
		t.Fatal(err)
	}
	s := h.status("probe")
	if s.Generation != 2 || s.PID == old.PID || s.State != plugin.Running || s.Restarts != 0 || s.Exceptions != 0 {
		t.Errorf("after the restart: %+v", s)
	}
	if processGone(old.PID) {
		t.Fatal("the old process ended with a call in flight")
	}
	close(moving.goOn)
	if err := waittest.Next(t, "what can be resumed to be interrupted", moving.err); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("a resumable call: want ErrInterrupted, found %v", err)
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "count", Payload: []byte("1")}); err != nil {
		t.Errorf("a new call beside the old one: %v", err)
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the old call to finish", finishing.err); err != nil || finishing.got != 2 {
		t.Errorf("a call in flight: want both results, found %d, %v", finishing.got, err)
	}
	awaitGone(t, old.PID)
	h.await(t, "probe", "idle", func(s plugin.Status) bool { return s.OpenTasks == 0 })
}

func TestOldGenerationIsDrainedForALimitedTime(t *testing.T) {
	t.Parallel()
	h, old := startProbe(t, func(c *plugin.Config) { c.DrainTimeout = 300 * time.Millisecond })
	endless := h.stream(t, plugin.Task{Capability: "count"})
	close(endless.goOn)
	if err := h.restart(t); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the call to be ended", endless.err); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("want ErrInterrupted, found %v", err)
	}
	awaitGone(t, old.PID)
}

func TestRestartThatFailsLeavesTheOldInCharge(t *testing.T) {
	t.Parallel()
	dir, problem := t.TempDir(), filepath.Join(t.TempDir(), "problem")
	install(t, dir, spec{Name: "probe", Version: "1.0.0", Problem: problem})
	h := startHost(t, dir, func(c *plugin.Config) { c.HealthEvery = time.Hour })
	old := h.awaitState(t, "probe", plugin.Running)
	if err := os.WriteFile(problem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.restart(t); err == nil || !strings.Contains(err.Error(), "the source is unreadable") {
		t.Errorf("want the reason, found %v", err)
	}
	s := h.status("probe")
	if s.PID != old.PID || s.State != plugin.Running || s.Generation != 1 {
		t.Errorf("found %+v", s)
	}
	if !strings.Contains(s.LastError, "the source is unreadable") || time.Since(s.LastErrorAt).Abs() > time.Minute || s.Exceptions != 1 {
		t.Errorf("the failure is not told: %+v", s)
	}
}

func TestRestartEndsAQuarantine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cause := filepath.Join(t.TempDir(), "cause")
	if err := os.WriteFile(cause, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	install(t, dir, spec{Name: "probe", Version: "1.0.0", Problem: cause})
	h := startHost(t, dir, func(c *plugin.Config) { c.CrashLimit = 2 })
	h.awaitState(t, "probe", plugin.Quarantined)
	if err := h.restart(t); err == nil || !strings.Contains(err.Error(), "the source is unreadable") {
		t.Errorf("while the cause lasts: %v", err)
	}
	h.awaitState(t, "probe", plugin.Quarantined)
	if err := os.Remove(cause); err != nil {
		t.Fatal(err)
	}
	if err := h.restart(t); err != nil {
		t.Errorf("without the cause: %v", err)
	}
	if s := h.status("probe"); s.State != plugin.Running || s.Generation != 1 {
		t.Errorf("found %+v", s)
	}
}

func TestOrdersAboutWhatIsNotThereAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHost(t, dir, nil)
	for name, err := range map[string]error{"restart": h.Restart(t.Context(), "x"), "disable": h.Disable("x", "why"), "enable": h.Enable("x")} {
		if !errors.Is(err, plugin.ErrNotFound) {
			t.Errorf("%s: want ErrNotFound, found %v", name, err)
		}
	}
	pair{t, dir, "x"}.lay()
	pair{t, dir, "x"}.write("", "spoilt", 0o755)
	h.awaitState(t, "x", plugin.Refused)
	if err := h.Restart(t.Context(), "x"); !errors.Is(err, plugin.ErrNotRunning) || !strings.Contains(err.Error(), "digest differs") {
		t.Errorf("restart of what is refused: want ErrNotRunning with the reason, found %v", err)
	}
	for _, reason := range []string{"", "two\nlines", strings.Repeat("x", 1025)} {
		if err := h.Disable("x", reason); err == nil || !strings.Contains(err.Error(), "want a reason of 1 to 1024 bytes in one line") {
			t.Errorf("reason %.10q: found %v", reason, err)
		}
	}
}

func TestDisabledPluginStaysOffUntilItIsEnabled(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	done := filepath.Join(t.TempDir(), "done")
	running := h.stream(t, plugin.Task{Capability: "until", Payload: []byte(done)})
	close(running.goOn)
	if err := h.Disable("probe", "it fills the disk"); err != nil {
		t.Fatal(err)
	}
	s := h.status("probe") // at once: the command prints what it has brought about
	if s.State != plugin.Disabled || !strings.Contains(s.Reason, "it fills the disk") || s.PID != 0 || s.Version != "1.0.0" {
		t.Errorf("found %+v", s)
	}
	for what, err := range map[string]error{"restart": h.restart(t), "execute": func() error {
		_, err := h.ask(t, "probe", plugin.Task{Capability: "count"})
		return err
	}()} {
		if !errors.Is(err, plugin.ErrDisabled) || !strings.Contains(err.Error(), "it fills the disk") {
			t.Errorf("%s: want ErrDisabled with the reason, found %v", what, err)
		}
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the call in flight", running.err); err != nil || running.got != 2 {
		t.Errorf("a call in flight was not drained: %v", err)
	}
	awaitGone(t, first.PID)
	// Neither new files nor another host bring it back.
	install(t, h.dir, spec{Name: "probe", Version: "1.1.0"})
	h.await(t, "probe", "seen anew", func(s plugin.Status) bool { return s.Version == "1.1.0" && s.State == plugin.Disabled })
	h.end()
	next := startHost(t, h.dir, func(c *plugin.Config) { c.StateDir = h.state })
	s = next.awaitState(t, "probe", plugin.Disabled)
	if !strings.Contains(s.Reason, "it fills the disk") {
		t.Errorf("the reason is lost: %+v", s)
	}
	if err := next.Compatible("9.9.9"); err != nil {
		t.Errorf("it keeps the host from being upgraded: %v", err)
	}
	if err := next.Enable("probe"); err != nil {
		t.Fatal(err)
	}
	next.awaitVersion(t, "probe", "1.1.0")
	next.end()
	startHost(t, h.dir, func(c *plugin.Config) { c.StateDir = h.state }).awaitVersion(t, "probe", "1.1.0")
}

func TestPluginThatHangsInItsStartCanBeDisabled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	install(t, dir, spec{Name: "probe", Version: "1.0.0", HangInStart: true})
	h := startHost(t, dir, func(c *plugin.Config) { c.StartTimeout = time.Hour })
	s := h.await(t, "probe", "starting", func(s plugin.Status) bool { return s.State == plugin.Starting && s.PID != 0 })
	if err := h.Disable("probe", "it hangs"); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, s.PID)
	if s := h.awaitState(t, "probe", plugin.Disabled); s.Exceptions != 0 {
		t.Errorf("it was counted as a failure: %+v", s)
	}
}

func TestOldGenerationIsLookedAfterWhileTheNewOneHangs(t *testing.T) {
	t.Parallel()
	h, old := startProbe(t, func(c *plugin.Config) { c.StartTimeout = time.Hour })
	install(t, h.dir, spec{Name: "probe", Version: "1.1.0", HangInStart: true})
	h.await(t, "probe", "starting the new one", func(s plugin.Status) bool { return strings.Contains(s.Reason, "is starting and will replace") })
	measured := old.Usage.CPUSeconds
	h.await(t, "probe", "measured", func(s plugin.Status) bool { return s.Usage.CPUSeconds > measured })
	// Still newer files need not wait for its hour.
	install(t, h.dir, spec{Name: "probe", Version: "1.2.0"})
	h.awaitVersion(t, "probe", "1.2.0")
}

func TestChangedLimitsAloneAreANewGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0"}
	m, exe := manifest(s), build(t, s)
	put := func() {
		t.Helper()
		if _, err := plugin.Install(dir, exe, m); err != nil {
			t.Fatal(err)
		}
	}
	put()
	h := startHost(t, dir, nil)
	first := h.awaitState(t, "probe", plugin.Running)
	m.Limits = plugin.Limits{Files: 512}
	put()
	second := h.awaitAnother(t, "probe", first)
	if second.Generation != 2 || second.Digest != first.Digest || !strings.Contains(second.Limits, "files") {
		t.Errorf("found %+v", second)
	}
}

func TestStatusOfAPluginThatQuotesIsOneBoundedLine(t *testing.T) {
	t.Parallel()
	h, _ := startProbe(t, nil)
	_, err := h.ask(t, "probe", plugin.Task{Capability: "rant"})
	if err == nil {
		t.Fatal("want the plugin's error")
	}
	s := h.status("probe")
	if len(s.LastError) > 1024 || strings.ContainsAny(s.LastError, "\n\x1b") || !strings.Contains(s.LastError, "first line second line") {
		t.Errorf("found %q", s.LastError)
	}
}
