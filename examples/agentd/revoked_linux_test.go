package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestFleetIsToldOfTheRevokedKeyOfWhatRuns: who watches the registry must see
// what status on the host says.
func TestFleetIsToldOfTheRevokedKeyOfWhatRuns(t *testing.T) {
	t.Parallel()
	s, v, roots := newRootedSite(t)
	p := s.start(append(roots, "--check-every", "100ms")...)
	s.upgrade("1.1.0", roots...).ok(t)
	v.keys("rotate", "--add", v.file("next.pub")).ok(t)
	v.keys("revoke", "--reason", "broken into", v.id("release")).ok(t)
	v.sign()
	there := []string{"--etcd", s.etcd.URL()}
	revoked := v.id("release") + " signs nothing any more, since "
	shows(t, []string{"KEY REVOKED: " + revoked, ": broken into."}, append([]string{"status", "--agent", "a1"}, there...)...)
	shows(t, []string{"runs a release whose key is revoked: " + revoked, "alert " + health.ReleaseKeyRevoked}, append([]string{"fleet"}, there...)...)
	var entries []agent.Entry
	if err := json.Unmarshal([]byte(agentd(t, append([]string{"fleet", "-o", "json"}, there...)...).ok(t).stdout), &entries); err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Status == nil || entries[0].Status.Upgrade.Provenance == nil || entries[0].Status.Upgrade.Provenance.Revoked == nil ||
		!slices.ContainsFunc(entries[0].Status.Health.Alerts, func(a health.Alert) bool { return a.Name == health.ReleaseKeyRevoked }) {
		t.Errorf("%+v", entries)
	}
	// A rollback to it is made, and says so.
	v.build("next", "1.2.0", "--extend", v.file("release.pub")).ok(t)
	waittest.Nil(t, "1.2.0 is taken", func() error {
		if r := s.upgrade("1.2.0", roots...); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	r := operate(t, "rollback", []string{"--state-dir", s.state}).ok(t)
	if !strings.Contains(r.stdout, "the key that signed it, "+v.id("release")+", was revoked since") {
		t.Errorf("rollback says\n%s", r.stdout)
	}
	p.stop()
}
