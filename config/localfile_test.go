package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAFileThatIsBeingWrittenIsWaitedFor: half of a document may be a valid
// one, with half of the settings.
func TestAFileThatIsBeingWrittenIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	l := localFiles{paths: []string{path}, maxBytes: 100}
	if docs := l.read(); len(docs) != 0 || l.changed() {
		t.Errorf("a file that does not exist: %v", docs)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for range 3 {
		if _, err := f.WriteString("a: 1\n"); err != nil {
			t.Fatal(err)
		}
		if l.changed() {
			t.Fatal("read while it grows")
		}
	}
	if !l.changed() {
		t.Error("not read once it rests")
	}
	if docs := l.read(); len(docs) != 1 || string(docs[0].Data) != "a: 1\na: 1\na: 1\n" || l.changed() {
		t.Errorf("read %v", docs)
	}
	// The same size, another time, as of an edit in place.
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if l.changed() || !l.changed() {
		t.Error("a change that keeps the size is not seen at the second look")
	}
}
