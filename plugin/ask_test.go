//go:build linux

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

// asks is plugin.Ask with a limit of its own.
func (h *host) asks(t *testing.T, limit time.Duration, r plugin.Request) ([]plugin.Status, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return plugin.Ask(ctx, h.state, r)
}

func askFiles(t *testing.T, state string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(state, "ask"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestOperatorSteersAPluginWithoutNetwork: an operator on the host has nothing
// but the state directory while etcd is away.
func TestOperatorSteersAPluginWithoutNetwork(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	all, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionList})
	if err != nil || len(all) != 1 || all[0].PID != first.PID || all[0].State != plugin.Running {
		t.Fatalf("list: %+v, %v", all, err)
	}
	if _, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionRestart, Plugin: "probe"}); err != nil {
		t.Fatal(err)
	}
	if now := h.status("probe"); now.PID == first.PID || now.State != plugin.Running {
		t.Errorf("when the answer came, the restart was not done: %+v", now)
	}
	why := "it floods"
	all, err = h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionDisable, Plugin: "probe", Reason: why})
	if err != nil || len(all) != 1 {
		t.Fatalf("disable: %+v, %v", all, err)
	}
	if off := h.awaitState(t, "probe", plugin.Disabled); !strings.Contains(off.Reason, why) {
		t.Errorf("disabled without the reason: %+v", off)
	}
	if _, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionRestart, Plugin: "probe"}); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("restart of a disabled plugin: %v", err)
	}
	if _, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionEnable, Plugin: "probe"}); err != nil {
		t.Fatal(err)
	}
	h.awaitState(t, "probe", plugin.Running)
	if _, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionRestart, Plugin: "absent"}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("restart of a plugin that there is not: %v", err)
	}
	// The host removes what it took up once it has answered.
	waittest.Until(t, "nothing is left behind", func() bool { return len(askFiles(t, h.state)) == 0 })
}

// TestRequestThatNobodyTookUpIsTakenBack: the next host would else restart what
// nobody wants restarted any more.
func TestRequestThatNobodyTookUpIsTakenBack(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	h.end()
	_, err := h.asks(t, 100*time.Millisecond, plugin.Request{Action: plugin.ActionRestart, Plugin: "probe"})
	if !errors.Is(err, plugin.ErrUnanswered) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody runs, and the error is %v", err)
	}
	if left := askFiles(t, h.state); len(left) > 0 {
		t.Errorf("%q are left behind", left)
	}
	if _, err := plugin.Ask(t.Context(), t.TempDir(), plugin.Request{Action: plugin.ActionList}); !errors.Is(err, plugin.ErrUnanswered) {
		t.Errorf("a directory without a host: %v", err)
	}
	if !processGone(first.PID) {
		t.Errorf("process %d lives", first.PID)
	}
}

// TestHostAnswersForTheOneThatDied: whoever asked would wait in vain, and what
// came too late would be done behind everybody's back.
func TestHostAnswersForTheOneThatDied(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	ask := filepath.Join(state, "ask")
	if err := os.MkdirAll(ask, 0o700); err != nil {
		t.Fatal(err)
	}
	taken, late, bad, done := strings.Repeat("A", 26), strings.Repeat("B", 26), strings.Repeat("C", 26), strings.Repeat("D", 26)
	for name, text := range map[string]string{
		taken + ".taken": `{"schema":1,"action":"restart","plugin":"probe","until":"2099-01-02T03:04:05Z"}`,
		late + ".json":   `{"schema":1,"action":"disable","plugin":"probe","reason":"x","until":"2020-01-02T03:04:05Z"}`,
		bad + ".json":    `{"schema":1,"action":"reboot"`,
		done + ".taken":  `{}`, done + ".answer": `{"schema":1}`,
		"README": "not for the host",
	} {
		if err := os.WriteFile(filepath.Join(ask, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := startHost(t, dir, func(c *plugin.Config) { c.StateDir = state })
	h.awaitState(t, "probe", plugin.Running)
	if _, err := h.asks(t, 20*time.Second, plugin.Request{Action: plugin.ActionList}); err != nil {
		t.Fatal(err) // the requests before it have been taken up, too
	}
	h.end()
	for id, says := range map[string]string{taken: "ask again", late: "too late", bad: "cannot be performed", done: `{"schema":1}`} {
		text, err := os.ReadFile(filepath.Join(ask, id+".answer"))
		if err != nil || !strings.Contains(string(text), says) {
			t.Errorf("want an answer with %q, found %q, %v", says, text, err)
		}
	}
	if left := askFiles(t, state); len(left) != 5 {
		t.Errorf("want four answers and what is not the host's, found %q", left)
	}
	if s := h.status("probe"); s.State == plugin.Disabled {
		t.Errorf("what came too late was done: %+v", s)
	}
}

func TestHostTakesRequestsWhenTheirDirectoryWasRemoved(t *testing.T) {
	t.Parallel()
	h, _ := startProbe(t, nil)
	ask := filepath.Join(h.state, "ask")
	waittest.Nil(t, "the directory of requests is there", func() error { return os.Remove(ask) })
	waittest.Until(t, "it is there again", func() bool {
		_, err := os.Stat(ask)
		return err == nil
	})
	all, err := plugin.Ask(context.Background(), h.state, plugin.Request{Action: plugin.ActionList})
	if err != nil || len(all) != 1 {
		t.Errorf("found %+v, %v", all, err)
	}
}
