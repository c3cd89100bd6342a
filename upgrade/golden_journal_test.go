package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// goldenStates are those of schema 1. A state is never taken away.
var goldenStates = []State{
	Idle, Requested, Downloading, Verifying, Staged, Starting, Probation,
	Committing, Committed, RollingBack, RolledBack, Failed,
}

// goldenJournal is the file that schema 1's first release would have written
// in a state; idle has no file of its own but what a reader makes of none.
func goldenJournal(tb testing.TB, s State) []byte {
	return golden(tb, filepath.Join("journal-1", string(s)+".json"))
}

func TestJournalInEachStateOfSchema1IsReadAndWrittenAsEver(t *testing.T) {
	files, err := os.ReadDir(filepath.Join("testdata", "journal-1"))
	if err != nil || len(files) != len(goldenStates) {
		t.Fatalf("%d golden journals, want one for each of %d states, %v", len(files), len(goldenStates), err)
	}
	for _, s := range goldenStates {
		raw := goldenJournal(t, s)
		a, err := parseJournal(raw)
		if err != nil || a.State != s {
			t.Errorf("%s is read as %s, %v", s, a.State, err)
			continue
		}
		again, err := json.MarshalIndent(a, "", "  ")
		if err != nil || !bytes.Equal(append(again, '\n'), raw) {
			t.Errorf("%s is now written as\n%s%v\nwant\n%s", s, again, err, raw)
		}
	}
}

// What a start makes of each state, with nobody else alive, is a promise to
// the releases before: docs/formats.md.
func TestJournalInEachStateOfSchema1IsResolvedAtStart(t *testing.T) {
	for _, s := range goldenStates {
		for _, moved := range []bool{false, true} {
			if moved && s != Committing {
				continue
			}
			want := map[State]State{
				Requested: Failed, Downloading: Failed, Verifying: Failed, Staged: Failed,
				Starting: RolledBack, Probation: RolledBack, RollingBack: RolledBack, Committing: RolledBack,
			}[s]
			if want == "" {
				want = s
			}
			name := string(s)
			if moved {
				want, name = Committed, name+" after current moved"
			}
			t.Run(name, func(t *testing.T) { resolves(t, s, moved, want) })
		}
	}
}

// resolves opens a state directory of the first release in state s.
func resolves(t *testing.T, s State, moved bool, want State) {
	dir := t.TempDir()
	from := goldenSlot(t, dir, "1.0.0", "ef", time.Now())
	to := goldenSlot(t, dir, "1.1.0", "ab", time.Time{})
	cur := from
	if moved {
		cur = to
	}
	if err := atomicfile.Symlink(filepath.Join(slotsDir, cur.Name()), filepath.Join(dir, currentLink)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, journalFile), goldenJournal(t, s), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{StateDir: dir, Name: "demo", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u.slots = slots{dir}
	if err := u.load(); err != nil {
		t.Fatal(err)
	}
	u.resume(cur)
	u.endRollback()
	r, err := Inspect(dir)
	if err != nil || r.Current != cur.Name() || len(r.Slots) != 2 || r.Journal.State != want {
		t.Errorf("current %s, %d slots, journal %s, %v; want %s", r.Current, len(r.Slots), r.Journal.State, err, want)
	}
	if s != want && r.Journal.Reason == "" {
		t.Error("the journal does not say what was found")
	}
	if err := u.journal.begin(Attempt{}); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

// goldenSlot makes a slot without an executable.
func goldenSlot(t *testing.T, dir, version, digest string, proven time.Time) Slot {
	t.Helper()
	slot := slots{dir}.slot(Slot{Ref: Ref{Version: version, Binary: strings.Repeat(digest, 32)}, Created: time.Now(), Proven: proven})
	if err := os.MkdirAll(slot.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if err := slot.save(); err != nil {
		t.Fatal(err)
	}
	return slot
}

func FuzzJournalInEachState(f *testing.F) {
	for _, s := range goldenStates {
		f.Add(goldenJournal(f, s))
	}
	f.Add([]byte(`{"schema":1,"state":"idle","started":"yesterday"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseJournal(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := parseJournal(again); err != nil || b.State != a.State {
			t.Errorf("read, written and read again: %s, %v; it was %s", b.State, err, a.State)
		}
	})
}
