package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// What a release has printed before it failed is told from afar as far as a status
// has room for it, and whole on the host.
func TestBadSuccessorIsToldInEtcdWithinWhatEtcdTakes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	before := m.registered()
	for _, c := range []struct {
		name, version string
		shouts        []byte // nil: a file that is no program
		reason        string
		lines         int
	}{
		{"log that JSON escapes sixfold", "1.1.0", []byte("<"), "exit status 3", 50},
		{"log that is not UTF-8", "1.1.1", []byte("\xff"), "exit status 3", 50},
		{"log of control characters", "1.1.2", []byte("\x1b"), "exit status 3", 50},
		{"no program", "1.1.3", nil, "executable is none for this platform", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pin release.Pin
			if c.shouts == nil {
				pin = f.publishText(c.version)
			} else {
				pin = f.publish(build{Version: c.version, Shouts: c.shouts})
			}
			order, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Pin: pin, By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.dir.Follow(f.ctx(), order, "a1", func(upgrade.Status) {}); err != nil {
				t.Fatal(err)
			}
			status := f.statusValue(t)
			s := status.Upgrade
			if s.State != upgrade.RolledBack || s.Class != upgrade.BadBinary || !strings.Contains(s.Reason, c.reason) {
				t.Errorf("status: %s, class %s, %q", s.State, s.Class, s.Reason)
			}
			if n := len(s.Log); n != min(c.lines, max(n, 1)) || n+status.LeftOut["log"] != c.lines {
				t.Errorf("status holds %d lines of log, and says that there are %d more; want one at least, and all %d told or counted", n, status.LeftOut["log"], c.lines)
			}
			if onHost, err := upgrade.Inspect(m.state); err != nil || len(onHost.Journal.Log) != c.lines {
				t.Errorf("the host has %d lines of log, %v; want %d", len(onHost.Journal.Log), err, c.lines)
			}
			for _, line := range s.Log {
				if len(line) > 1<<10 || !utf8.ValidString(line) || strings.ContainsRune(line, '\x1b') {
					t.Fatalf("a line of the log is %q", line)
				}
			}
			if s.Running.Version != "1.0.0" || s.LastFailed == nil || s.LastFailed.Manifest != pin.Digest || s.LastFailed.Reason != s.Reason {
				t.Errorf("running %+v, last failed %+v", s.Running, s.LastFailed)
			}
			if after := m.registered(); after.PID != before.PID || after.Version != "1.0.0" {
				t.Errorf("registration: %+v", after.Registration)
			}
		})
	}
}

// statusValue reads the key itself and checks its size.
func (f *fleet) statusValue(t *testing.T) Status {
	t.Helper()
	res, err := f.etcd.Client(t).Get(f.ctx(), newKeys("").status("a1"))
	if err != nil || len(res.Kvs) != 1 {
		t.Fatal("no status", err)
	}
	value := res.Kvs[0].Value
	if len(value) > maxStatus {
		t.Errorf("the status has %d bytes", len(value))
	}
	t.Logf("%d bytes", len(value))
	var s Status
	if err := json.Unmarshal(value, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// publishText signs a file that is no program.
func (f *fleet) publishText(version string) release.Pin {
	f.Helper()
	path := filepath.Join(f.TempDir(), "release")
	if err := os.WriteFile(path, []byte("release notes of "+version), 0o600); err != nil {
		f.Fatal(err)
	}
	pin, err := f.repo.Publish(f.ctx(), release.Release{
		Name: "demo", Version: version,
		Binaries: []release.Binary{{OS: runtime.GOOS, Arch: runtime.GOARCH, Path: path}},
	})
	if err != nil {
		f.Fatal(err)
	}
	return pin
}
