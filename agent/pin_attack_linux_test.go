package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// forced writes an order as who can write to etcd does: past every check of
// Directory.Order.
func (m *member) forced(order string) {
	m.Helper()
	if _, err := m.dir.client.Put(m.ctx(), m.dir.keys.order(m.id), order); err != nil {
		m.Fatal(err)
	}
}

// toldOf waits for the end of the order called id, or, where it cannot be read,
// for an error that holds says: that of the order before stays for a moment.
func (m *member) toldOf(id, says string) (said string, s upgrade.Status) {
	m.Helper()
	waittest.Nil(m, "order "+id+" has ended", func() error {
		e, err := m.dir.Get(m.ctx(), m.id)
		if err != nil {
			return err
		}
		if e.Status == nil {
			return errors.New("no status")
		}
		s = e.Status.Upgrade
		switch {
		case s.OrderID == id && s.State.Terminal():
			said = string(s.State) + ": " + s.Reason
		case strings.HasPrefix(id, "unreadable") && strings.Contains(e.Status.OrderError, says):
			said = e.Status.OrderError
		default:
			return fmt.Errorf("order %s is %s, order error %q", s.OrderID, s.State, e.Status.OrderError)
		}
		return nil
	})
	return said, s
}

func TestEtcdPinToOldSignedReleaseIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	repo, saved := f.path+"/repo", f.path+"/saved"
	old := f.publish(build{Version: "1.0.0"})
	f.publish(build{Version: "1.1.0"})
	copyTree(t, repo, saved)
	// What the publisher took back: signed, and never to be offered again.
	lost := f.publish(build{Version: "1.2.0"})
	replaced := f.publish(build{Version: "1.3.0", Remembers: true})
	copyTree(t, repo, f.path+"/aside")
	if err := os.RemoveAll(repo); err != nil {
		t.Fatal(err)
	}
	copyTree(t, saved, repo)
	next := f.publish(build{Version: "1.3.0"})
	yanked := f.publish(build{Version: "1.4.0"})
	if err := f.repo.Yank(f.ctx(), "demo", "1.4.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"manifests", "blobs"} { // a mirror keeps all
		copyTree(t, filepath.Join(f.path, "aside", dir), filepath.Join(repo, dir))
	}

	m := f.member("a1").startOf(build{Version: "1.1.0"})
	before := m.registered()
	order := func(id, action string, pin release.Pin) string {
		data, err := json.Marshal(Order{Schema: schema, Request: upgrade.Request{ID: id, Action: upgrade.Action(action), Pin: pin, By: "intruder", Force: true}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, c := range []struct {
		id, action string
		pin        release.Pin
		says       string
	}{
		{"old release, still listed", "upgrade", old, "downgrade refused: 1.1.0 runs, 1.0.0 is older"},
		{"release that the index lists no more", "upgrade", lost, "not found: the index of demo"},
		{"manifest that the index lists no more", "upgrade", replaced, "digest differs: the order pins " + replaced.String() + ", the signed index of demo lists " + next.String()},
		{"manifest of another version", "upgrade", release.Pin{Version: "1.3.0", Digest: old.Digest}, "digest differs: the order pins"},
		{"withdrawn release", "upgrade", yanked, "release withdrawn: demo 1.4.0: loses records"},
		{"old release as a rollback", "rollback", old, "no 1.0.0 is retained on this host"},
		{"lost release as a rollback", "rollback", lost, "no 1.2.0 is retained on this host"},
		{"unreadable: floating tag", "upgrade", release.Pin{Version: "latest", Digest: old.Digest}, `"latest" is a tag or branch`},
		{"unreadable: range", "upgrade", release.Pin{Version: "^1.1.0", Digest: old.Digest}, `"^1.1.0" is a range`},
		{"unreadable: path for a digest", "upgrade", release.Pin{Version: "1.3.0", Digest: "sha256:../../../../etc/passwd"}, "64 lower-case hexadecimal digits"},
		{"unreadable: path for a version", "upgrade", release.Pin{Version: "../../1.0.0", Digest: old.Digest}, "not an exact version"},
	} {
		m.forced(order(c.id, c.action, c.pin))
		said, _ := m.toldOf(c.id, c.says)
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: %q, want one that says %q", c.id, said, c.says)
		}
		if e := m.registered(); e.PID != before.PID || e.Version != "1.1.0" {
			t.Fatalf("%s: now %s with pid %d runs", c.id, e.Version, e.PID)
		}
	}
	slots, err := os.ReadDir(filepath.Join(m.state, "slots"))
	if err != nil || len(slots) != 1 {
		t.Errorf("slots %v (%v), want what runs alone", slots, err)
	}
	// The same agent takes what the index does list.
	m.forced(order("listed", "upgrade", next))
	if said, s := m.toldOf("listed", ""); s.State != upgrade.Committed || !strings.Contains(s.AllowedBy, "newer than 1.1.0, same major version") {
		t.Errorf("listed: %s (%+v)", said, s.Attempt)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o755))
		}
		data, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), data, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWithdrawnRunningReleaseRaisesAnAlertInTheRegistry(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.publish(build{Version: "1.0.0"})
	m := f.member("a1")
	m.env.CheckEvery = 50 * time.Millisecond
	m.start()
	m.registered()
	alerting := func(want string) {
		t.Helper()
		waittest.Nil(t, fmt.Sprintf("the registry tells of %q", want), func() error {
			e := m.registered()
			alert := slices.ContainsFunc(e.Status.Health.Alerts, func(a health.Alert) bool { return a.Name == health.ReleaseYanked })
			if e.Status.Upgrade.Yanked != want || alert != (want != "") || !e.Status.Health.Ready {
				return fmt.Errorf("yanked %q, health %+v", e.Status.Upgrade.Yanked, e.Status.Health)
			}
			return nil
		})
	}
	alerting("")
	for _, why := range []string{"loses records", ""} {
		if err := f.repo.Yank(f.ctx(), "demo", "1.0.0", why); err != nil {
			t.Fatal(err)
		}
		alerting(why)
	}
}
