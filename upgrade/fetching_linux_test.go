package upgrade

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// trickle serves a repository; while slow is set, a binary comes a byte at a
// time, fast enough not to count as stalled.
func trickle(t *testing.T, dir string, slow *atomic.Bool) (url string, begun *atomic.Bool) {
	t.Helper()
	begun = new(atomic.Bool)
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slow.Load() || !strings.HasPrefix(r.URL.Path, "/blobs/") {
			files.ServeHTTP(w, r)
			return
		}
		begun.Store(true)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				_, _ = io.WriteString(w, strings.Repeat("x", 64))
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, begun
}

func TestMirrorThatTricklesKeepsNoHostFromAHoldOrARollback(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	r := prepareRig(t, 100*time.Millisecond, nil)
	url, begun := trickle(t, r.env.Repository, &slow)
	r.env.Repository = url
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	pin := r.publish(build{Version: "1.2.0"})
	slow.Store(true)
	for _, c := range []struct {
		name, says string
		meanwhile  Request
		state      State
	}{
		{"hold", "held", Request{ID: "meanwhile-hold", Action: ActionHold, Reason: "audit"}, ""},
		{"rollback", "replaced by a newer request", Request{ID: "meanwhile-rollback", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}}, Committed},
	} {
		begun.Store(false)
		r.askAs(pin, c.name)
		waittest.Until(t, "the download has begun", begun.Load)
		r.request(c.meanwhile)
		waittest.Until(t, "the download is given up for: "+c.name, func() bool {
			return strings.Contains(r.logged(), c.says)
		})
		if c.state != "" {
			if s := r.ends(c.meanwhile.ID); s.State != c.state || s.Running.Version != "1.0.0" {
				t.Errorf("%s: %s: %s", c.name, s.State, s.Reason)
			}
			continue
		}
		if s := r.ends(c.name); s.State != Failed || !strings.Contains(s.Reason, c.says) {
			t.Errorf("%s: %s: %s", c.name, s.State, s.Reason)
		}
		r.request(Request{ID: "go on", Action: ActionUnhold})
		r.answers("go on", "")
	}
	if parts, err := filepath.Glob(filepath.Join(r.env.StateDir, downloadPrefix+"*")); err != nil || len(parts) == 0 {
		t.Errorf("%v, %v: nothing to resume", parts, err)
	}
}
