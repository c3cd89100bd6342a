//go:build unix

package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAHostileStateDirectoryNeitherHoldsADiagnosisUpNorLeadsItAstray has links
// that lead out, FIFOs that nobody writes to, and files without end.
func TestAHostileStateDirectoryNeitherHoldsADiagnosisUpNorLeadsItAstray(t *testing.T) {
	outside := t.TempDir()
	put(t, filepath.Join(outside, "journal.json"), "from outside")
	put(t, filepath.Join(outside, "complete"), "from outside")
	dir := t.TempDir()
	for name, to := range map[string]string{
		"journal.json": filepath.Join(outside, "journal.json"), "slots/1.0.0-aaaaaaaaaaaa": outside, "plugins/log/out.log": filepath.Join(outside, "complete"),
		"config.json": filepath.Join(outside, "journal.json"), "loop": ".", "current": "slots/1.0.0-aaaaaaaaaaaa", "plugins/plugins/up.json": "../../../../../../../../etc/hostname",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hold.json", "quarantine.json", "lock", "boots.json", "plugins/log/fifo.log", "plugins/plugins/fifo.json"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"trust.json", "plugins/log/huge.log"} {
		put(t, filepath.Join(dir, name), "")
		if err := os.Truncate(filepath.Join(dir, name), 1<<40); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "starts.json", strings.Repeat("d/", 40)), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range listingMost {
		put(t, filepath.Join(dir, "many", fmt.Sprint(i)), "")
	}
	begun := time.Now()
	var out bytes.Buffer
	if err := DiagnoseState(t.Context(), StateDiagnosis{StateDir: dir, Version: "1.0.0"}, &out); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > partTimeout {
		t.Errorf("it took %v: something held it up", took)
	}
	for name, text := range unpacked(t, out.Bytes()) {
		if strings.Contains(text, "from outside") {
			t.Errorf("%s is from outside", name)
		}
	}
	d, err := ReadDiagnosis(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]string{}
	for _, g := range d.Missing {
		missing[g.Name] = g.Reason
	}
	for name, why := range map[string]string{
		"state/journal.json": "regular file", "state/hold.json": "regular file", "state/trust.json": "bytes", "state/starts.json": "regular file",
		"logs/out.log": "regular file", "logs/fifo.log": "regular file", "config/kept.json": "regular file", "status.json": "no agent was asked",
		"state/plugins/plugins/up.json": "regular file", "state/plugins/plugins/fifo.json": "regular file",
	} {
		if !strings.Contains(missing[name], why) {
			t.Errorf("of %s it says %q, want %q", name, missing[name], why)
		}
	}
	if d.Source != "disk" || d.Agent != "" {
		t.Errorf("want it to say that it is from the disk alone, found %+v", d)
	}
}
