package main

import (
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestReleaseShowTellsOfTheRollbackByWhichAnAgentRunsIt(t *testing.T) {
	const digest = "sha256:abc"
	back := &upgrade.Comeback{From: "1.2.0", By: "pager", AllowedBy: "retained on this host", At: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct {
		p    upgrade.Provenance
		want string
	}{
		"rollback": {upgrade.Provenance{AllowedBy: "newer than 1.0.0", By: "ops", Rollback: back},
			"a1 on h (linux/amd64): came back by a rollback from 1.2.0 at 2030-01-01T00:00:00Z, asked for by pager and allowed by: retained on this host, brought at first by an upgrade, asked for by ops, allowed by: newer than 1.0.0."},
		"upgrade": {upgrade.Provenance{AllowedBy: "newer than 1.0.0", By: "ops"}, "a1 on h (linux/amd64): asked for by ops; allowed by: newer than 1.0.0."},
	} {
		d := &release.Description{Manifest: &release.Manifest{Name: "agentd"}, SignedBy: release.Signer{}}
		d.Pin.Digest = digest
		e := agent.Entry{Status: &agent.Status{Upgrade: upgrade.Status{Provenance: &c.p}}}
		e.ID, e.Host, e.Platform, e.ManifestDigest = "a1", "h", "linux/amd64", digest
		a, ok := runs(e, d)
		if text := (shown{Description: d, Agents: []runsIt{a}}).text(); !ok || !strings.Contains(text, c.want) {
			t.Errorf("%s: show does not say %q:\n%s", name, c.want, text)
		}
	}
}

func TestProgressOfASmallDownloadTellsItsSize(t *testing.T) {
	for total, want := range map[int64]string{700: "downloading 100 % of 0.7 KiB", 9 << 20: "downloading 100 % of 9.0 MiB"} {
		var out strings.Builder
		p := ticker{w: &out}
		p.show(upgrade.Status{Attempt: upgrade.Attempt{State: upgrade.Downloading}, Progress: &upgrade.Progress{Done: total, Total: total}})
		if !strings.Contains(out.String(), want) {
			t.Errorf("of %d bytes progress says %q", total, out.String())
		}
	}
}
