package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
)

func TestOperatorIsToldOfWithdrawalsAndRevokedKeysWithoutAnAgent(t *testing.T) {
	t.Parallel()
	s, v, roots := newRootedSite(t)
	p := s.start(append(roots, "--check-every", "100ms", "--remote-rollback", "never")...)
	s.upgrade("1.1.0", append(roots, "--by", "ops")...).ok(t)
	v.keys("rotate", "--add", v.file("next.pub")).ok(t)
	v.keys("revoke", "--reason", "broken into", v.id("release")).ok(t)
	v.sign()
	v.build("next", "1.2.0", "--extend", v.file("release.pub")).ok(t)
	s.upgrade("1.2.0", roots...).ok(t)
	agentd(t, "release", "yank", "--key", v.file("next.key"), "--trust-roots", v.file("roots.pub"), "--repo", v.repo, "--reason", "loses records", "1.1.0").ok(t)
	here := []string{"--state-dir", s.state}
	withdrawn, revoked := "WITHDRAWN by its publisher: loses records.", "KEY REVOKED: "+v.id("release")+" signs nothing any more, since "
	shows(t, []string{withdrawn, revoked}, append([]string{"status"}, here...)...)
	operate(t, "rollback", []string{"--etcd", s.etcd.URL(), "--agent", "a1"}, "1.0.0").fails(t, 1, "outside the upgrade policy", "on the host itself")
	p.stop()

	text := agentd(t, append([]string{"status"}, here...)...).ok(t).stdout
	for _, want := range []string{"no agent runs on it", withdrawn, revoked, ": broken into.", "(withdrawn: loses records; only with --allow-withdrawn)"} {
		if !strings.Contains(text, want) {
			t.Errorf("status lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, withdrawn) + strings.Count(text, revoked); n != 2 {
		t.Errorf("one release is withdrawn and signed by a revoked key, status tells %d:\n%s", n, text)
	}
	var r upgrade.Report
	if err := json.Unmarshal([]byte(agentd(t, append([]string{"status", "-o", "json"}, here...)...).ok(t).stdout), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Withdrawn) != 1 || r.Withdrawn[0].Version != "1.1.0" {
		t.Errorf("withdrawn: %+v", r.Withdrawn)
	}
	for slot, p := range r.Provenance {
		if (p.Revoked != nil) != strings.HasPrefix(slot, "1.1.0-") || p.Revoked != nil && (p.Revoked.ID != v.id("release") || p.Revoked.Key == "") {
			t.Errorf("%s: revoked is %+v", slot, p.Revoked)
		}
	}
	operate(t, "rollback", here).fails(t, 1, "release withdrawn: 1.1.0 was withdrawn by its publisher (loses records)", "go back to 1.0.0", "--allow-withdrawn")
	operate(t, "rollback", here, "--allow-withdrawn", "--by", "pager").ok(t)
	text = agentd(t, append([]string{"status"}, here...)...).ok(t).stdout
	if !strings.Contains(text, "came back by a rollback from 1.2.0 at ") || !strings.Contains(text, "asked for by pager and allowed by: retained on this host") || !strings.Contains(text, "was revoked since; withdrawn by its publisher (loses records), which was expressly allowed, brought at first by an upgrade, asked for by ops, allowed by: newer than 1.0.0") {
		t.Errorf("status tells not what it runs by:\n%s", text)
	}
	agentd(t, s.runArgs("--remote-rollback", "sometimes")...).fails(t, 2, "want offered, any or never")
}
