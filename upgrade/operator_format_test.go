package upgrade

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// The golden files of what operators and the guards leave in a state
// directory, as the first release that has them wrote them.

// stateOf lays golden files out as a state directory.
func stateOf(t *testing.T, files map[string]string) string {
	t.Helper()
	state := t.TempDir()
	for name, file := range files {
		if err := os.WriteFile(filepath.Join(state, name), golden(t, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return state
}

func TestOperatorsFilesOfSchema1AreStillRead(t *testing.T) {
	state := stateOf(t, map[string]string{
		holdFile: "hold-1.json", askedFile: "request-1.json", startsFile: "starts-1.json", bootsFile: "boots-1.json", journalFile: "journal-1-rollback.json",
	})
	at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	if h, err := ReadHold(state); err != nil || h == nil || *h != (Hold{Schema: 1, By: "ops@host", Reason: "audit", Since: at}) {
		t.Errorf("hold: %+v, %v", h, err)
	}
	want := Request{ID: "order-9", By: "ops@host", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}, Expect: "1.1.0", Force: true}
	if r, err := readAsked(state); err != nil || r == nil || *r != want {
		t.Errorf("request: %+v, %v", r, err)
	}
	if s, err := readStarts(state); err != nil || len(s.Starts) != 1 || !s.Starts[0].At.Equal(at) || s.Starts[0].To != "1.1.0" || s.Starts[0].Binary[:2] != "ab" {
		t.Errorf("starts: %+v, %v", s, err)
	}
	if b := readBoots(state); b.of("1.1.0-abababababab") != 2 || !b.Since.Equal(at) {
		t.Errorf("boots: %+v", b)
	}
	a, err := readJournal(filepath.Join(state, journalFile))
	if err != nil || a.Action != ActionRollback || len(a.Earlier) != 2 || a.Earlier[0] != "order-8" {
		t.Errorf("journal: %+v, %v", a, err)
	}
}

func TestOperatorsFilesAreWrittenAsInSchema1(t *testing.T) {
	at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	ref := func(digit string) string { return string(bytes.Repeat([]byte(digit), 32)) }
	r := Request{ID: "order-9", By: "ops@host", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}, Expect: "1.1.0", Force: true}
	for name, v := range map[string]any{
		"hold-1.json":    Hold{Schema: holdSchema, By: "ops@host", Reason: "audit", Since: at},
		"request-1.json": asked{askedSchema, r, at},
		"starts-1.json":  starts{Schema: startsSchema, Starts: []start{{at, "1.0.0", "1.1.0", ref("ab")}}},
		"boots-1.json":   boots{bootsSchema, "1.1.0-abababababab", 2, at},
	} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if data = append(data, '\n'); !bytes.Equal(data, golden(t, name)) {
			t.Errorf("%s is now written as\n%s\nwant\n%s", name, data, golden(t, name))
		}
	}
}

func TestOperatorsFilesOfANewerSchemaAreNotGuessed(t *testing.T) {
	state := t.TempDir()
	for _, name := range []string{holdFile, askedFile, startsFile, bootsFile} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(`{"schema":2,"id":"x","action":"rollback","slot":"s","starts":9}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if held(state) == nil {
		t.Error("a hold that cannot be understood lets everybody through")
	}
	if _, err := readAsked(state); err == nil {
		t.Error("a request that cannot be understood is performed")
	}
	if _, err := readStarts(state); err == nil {
		t.Error("starts are guessed")
	}
	if readBoots(state).of("s") != 0 {
		t.Error("a release is given up on a record that cannot be understood")
	}
}

// The next request must not lose the ids of those before, or an order whose
// end etcd has not heard of would be performed again.
func TestIDsOfEndedRequestsAreKeptForTheNextEight(t *testing.T) {
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "", "c", "d", "e", "f", "g", "h", "i", "k"} {
		if err := j.begin(Attempt{OrderID: id}); err != nil {
			t.Fatal(err)
		}
		if err := j.move(Failed, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.abandon(Attempt{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(j.last.Earlier, " "); got != "k i h g f e d c" {
		t.Errorf("kept %s", got)
	}
}
