package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The golden files below were written by the first release of each schema.
// They are never edited: hosts hold such files.

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestJournalOfSchema1IsStillRead(t *testing.T) {
	a, err := readJournal(filepath.Join("testdata", "journal-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if a.State != Probation || a.OrderID != "order-7" || a.From.Version != "1.0.0" || a.To.Manifest == "" || a.Class != BadBinary || len(a.Log) != 2 || a.Deadline.IsZero() {
		t.Errorf("%+v", a)
	}
}

func TestSlotRecordOfSchema1IsStillRead(t *testing.T) {
	state := t.TempDir()
	name := "1.1.0-" + strings.Repeat("ab", 6)
	if err := os.MkdirAll(filepath.Join(state, slotsDir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, slotsDir, name, completeFile), golden(t, "slot-1.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	slot, err := slots{state}.open(name)
	if err != nil || slot.Version != "1.1.0" || slot.Proven.IsZero() || slot.Retired.IsZero() || slot.Manifest == "" {
		t.Errorf("%+v, %v", slot, err)
	}
}

func TestQuarantineOfSchema1IsStillRead(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, quarantineFile), golden(t, "quarantine-1.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := quarantine{state}
	entries, err := q.entries()
	if err != nil || len(entries) != 2 {
		t.Fatalf("%+v, %v", entries, err)
	}
	bad, environment := entries[0], entries[1]
	year := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	if q.check(Ref{Manifest: bad.Manifest}, year) == nil {
		t.Error("a bad binary was let in again by time alone")
	}
	if q.check(Ref{Manifest: environment.Manifest}, environment.Since) == nil {
		t.Error("a failure of the environment does not keep its release out")
	}
	if q.check(Ref{Manifest: environment.Manifest}, year) != nil {
		t.Error("a failure of the environment keeps its release out for ever")
	}
}

func TestHandoverFramesOfProtocol1AreStillRead(t *testing.T) {
	wire := bytes.NewReader(golden(t, "handover-1.bin"))
	var kinds []string
	for {
		frame, err := readFrame(wire)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, frame.Kind)
		switch {
		case frame.Kind == kindOffer && (frame.Lease != 42 || frame.Attempt == nil || frame.probation() != 30*time.Second):
			t.Errorf("offer: %+v", frame)
		case frame.Kind == kindHealth && len(frame.Failing) != 1:
			t.Errorf("health: %+v", frame)
		}
	}
	if got := strings.Join(kinds, " "); got != "offer hello serving health future commit abort" {
		t.Errorf("kinds: %s", got)
	}
}

func TestNewerSchemaIsRefusedNotGuessed(t *testing.T) {
	state := t.TempDir()
	for _, name := range []string{journalFile, quarantineFile} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(`{"schema":2,"state":"idle"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openJournal(state); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("journal: %v", err)
	}
	if _, err := (quarantine{state}).entries(); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("quarantine: %v", err)
	}
	var wire bytes.Buffer
	body := `{"protocol":2,"kind":"offer"}`
	wire.Write([]byte{0, 0, 0, byte(len(body))})
	wire.WriteString(body)
	if _, err := readFrame(&wire); err == nil || !strings.Contains(err.Error(), "protocol 2") {
		t.Errorf("frame: %v", err)
	}
}

func TestUnknownStateInTheJournalIsAnError(t *testing.T) {
	if _, err := parseJournal([]byte(`{"schema":1,"state":"dancing"}`)); err == nil || !strings.Contains(err.Error(), "dancing") {
		t.Errorf("%v", err)
	}
	if err := transition(Probation, Requested); err == nil {
		t.Error("an attempt on probation was replaced by another")
	}
}

func TestEveryAttemptCanEnd(t *testing.T) {
	for _, s := range []State{Requested, Downloading, Verifying, Staged, Starting, Probation, Committing, RollingBack} {
		if transition(s, Failed) != nil {
			t.Errorf("%s cannot fail", s)
		}
	}
	for _, s := range []State{Idle, Committed, RolledBack, Failed} {
		if transition(s, Requested) != nil {
			t.Errorf("after %s nothing can be requested", s)
		}
	}
}

func FuzzHandoverFrame(f *testing.F) {
	f.Add(golden(f, "handover-1.bin"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, frame); err != nil {
			t.Fatalf("a frame that was read cannot be written: %v", err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add(golden(f, "journal-1.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseJournal(data)
		if err != nil {
			return
		}
		if !a.State.Valid() {
			t.Errorf("state %q was let through", a.State)
		}
		if _, err := json.Marshal(a); err != nil {
			t.Error(err)
		}
	})
}

func TestAttemptEndsEvenIfTheJournalCannotBeWritten(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone", journalFile)
	j := &journal{path: gone, last: Attempt{Schema: journalSchema, State: Probation}}
	for _, to := range []State{RollingBack, RolledBack} {
		if err := j.move(to, nil); err == nil {
			t.Fatal("the journal was written into a directory that does not exist")
		}
		if j.last.State != to {
			t.Fatalf("state %s, want %s: the agent could never upgrade again", j.last.State, to)
		}
	}
	if err := j.begin(Attempt{}); err == nil || j.last.State != RolledBack {
		t.Errorf("an attempt began without a record: %s, %v", j.last.State, err)
	}
	j.path = filepath.Join(t.TempDir(), journalFile)
	if err := j.begin(Attempt{}); err != nil {
		t.Errorf("once the disk can be written again: %v", err)
	}
}
