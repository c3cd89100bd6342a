package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAuditFindsWhatIsMissing fails if a record that is not on disk, or only
// half, counts as found.
func TestAuditFindsWhatIsMissing(t *testing.T) {
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.ndjson": `{"source":"quickstart","record":1}` + "\n" + `{"source":"quickstart","record":2}` + "\n",
		"b.ndjson": `{"source":"quickstart","record":2}` + "\n" + // again
			`{"source":"quickstart","record":99}` + "\n" + // never sent
			`{"source":"other","record":4}` + "\n" + // somebody else's
			`{"source":"logtail","text":"line 1"}` + "\n" +
			`{"source":"logtail","text":"line 3"}` + "\n" +
			`{"source":"hostmetrics"}` + "\n" +
			"\x00\x00\n" +
			`{"source":"quickstart","record":6}` + "\n" + // sent, not acknowledged
			`{"source":"quickstart","record":3}`, // torn
		"c.txt": `{"source":"quickstart","record":5}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(state, "spool", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acked := []bool{false, true, true, true, true, true, false}
	got, err := audit(state, acked, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := account{
		Acknowledged: 5, Found: 3, Missing: 3, FirstMissing: 3, Repeated: 1, Unacknowledged: 1, Damaged: 1,
		Lines: 3, LinesMissing: 1, FirstLineMissing: 2, Samples: 1,
	}
	if *got != want {
		t.Errorf("found %+v\nwant  %+v", *got, want)
	}
}

func TestTamperChangesOneByteOfTheReleaseAndOfNoOther(t *testing.T) {
	dir := t.TempDir()
	s := &site{repo: filepath.Join(dir, "repo")}
	blobs := filepath.Join(s.repo, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := write(filepath.Join(blobs, "0000000000000000"), "release 1.1.0")
	wanted := write(filepath.Join(blobs, "1111111111111111"), "release 1.4.0")
	if _, err := s.tamper(write(filepath.Join(dir, "agentd"), "release 1.4.0")); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(other); string(text) != "release 1.1.0" {
		t.Errorf("the other release is now %q", text)
	}
	if text, _ := os.ReadFile(wanted); string(text) == "release 1.4.0" || len(text) != 13 {
		t.Errorf("the release is now %q", text)
	}
	if _, err := s.tamper(write(filepath.Join(dir, "agentd"), "release 1.5.0")); err == nil {
		t.Error("a release that is not in the repository was tampered with")
	}
}
