package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestMain(m *testing.M) {
	if os.Getenv("SPOOL_WRITER") != "" {
		os.Exit(writer())
	}
	if os.Getenv("SPOOL_STREAM") != "" {
		os.Exit(streamWriter())
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, cfg Config) *Spool {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func batch(t testing.TB, text string) Batch {
	t.Helper()
	b, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// records reads dir as {"id":…} objects and counts each id.
func records(t testing.TB, dir string) (map[string]int, Summary) {
	t.Helper()
	got := map[string]int{}
	sum, err := Read(dir, func(record []byte) error {
		var r struct{ ID string }
		if err := json.Unmarshal(record, &r); err != nil {
			return err
		}
		got[r.ID]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, sum
}

func TestAcknowledgedRecordIsInTheFileUnchanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, Config{Dir: dir})
	if err := s.Append(batch(t, "{\"id\":\"a\",  \"x\": [1, 2]}\r\n  {\"id\":\"b\"}  ")); err != nil {
		t.Fatal(err)
	}
	data := onlyFile(t, dir)
	if want := "{\"id\":\"a\",  \"x\": [1, 2]}\n{\"id\":\"b\"}\n"; data != want {
		t.Errorf("file holds %q, want %q", data, want)
	}
	if s.Records() != 2 {
		t.Errorf("Records() = %d, want 2", s.Records())
	}
}

func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+Extension))
	if err != nil || len(paths) != 1 {
		t.Fatalf("want one file in %s, found %v (%v)", dir, paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAppendsThatWaitShareOneSync(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	var syncs atomic.Int64
	entered, release := make(chan struct{}), make(chan struct{})
	s.sync = func(f *os.File) error {
		if syncs.Add(1) == 1 {
			close(entered)
			<-release
		}
		return f.Sync()
	}
	const waiting = 20
	var wg sync.WaitGroup
	add := func(id int) {
		wg.Go(func() {
			if err := s.Append(batch(t, fmt.Sprintf(`{"id":"%d"}`, id))); err != nil {
				t.Error(err)
			}
		})
	}
	add(0)
	<-entered
	for i := range waiting {
		add(i + 1)
	}
	waittest.Until(t, "all appends wait for the same sync", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.open != nil && s.open.n == waiting
	})
	close(release)
	wg.Wait()
	if got := syncs.Load(); got != 2 {
		t.Errorf("%d appends took %d fsyncs, want 2: one for the first, one for all that waited", waiting+1, got)
	}
	if got, _ := records(t, s.dir); len(got) != waiting+1 {
		t.Errorf("found %d records, want %d", len(got), waiting+1)
	}
}

func TestConcurrentAppendsAcrossRotationsLoseAndRepeatNothing(t *testing.T) {
	dir := t.TempDir()
	a := open(t, Config{Dir: dir, MaxFileBytes: 2000})
	b := open(t, Config{Dir: dir, MaxFileBytes: 2000}) // the successor of a swap
	const writers, each = 8, 60
	var wg sync.WaitGroup
	for w := range writers {
		s := []*Spool{a, b}[w%2]
		wg.Go(func() {
			for i := range each {
				if err := s.Append(batch(t, fmt.Sprintf(`{"id":"%d-%d","pad":%q}`, w, i, strings.Repeat("x", 100)))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, sum := records(t, dir)
	if len(got) != writers*each || sum.Records != writers*each {
		t.Errorf("found %d different of %d records, want %d", len(got), sum.Records, writers*each)
	}
	if sum.Files < 10 {
		t.Errorf("found %d files, want at least 10 of 2000 bytes", sum.Files)
	}
	if len(sum.Torn)+len(sum.Damaged) != 0 {
		t.Errorf("found flaws: %+v", sum)
	}
}

func TestFailedSyncAcknowledgesNothingAndAbandonsTheFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	if err := s.Append(batch(t, `{"id":"before"}`)); err != nil {
		t.Fatal(err)
	}
	bad := errors.New("input/output error")
	s.sync = func(*os.File) error { return bad }
	s.file.sync = s.sync
	err := s.Append(batch(t, `{"id":"lost"}`))
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), "not stored") {
		t.Fatalf("Append = %v, want an error that wraps the fsync's", err)
	}
	s.sync = (*os.File).Sync
	if err := s.Append(batch(t, `{"id":"after"}`)); err != nil {
		t.Fatal(err)
	}
	got, sum := records(t, dir)
	if got["before"] != 1 || got["after"] != 1 || got["lost"] != 0 {
		t.Errorf("found %v, want before and after only", got)
	}
	if sum.Files != 2 {
		t.Errorf("found %d files, want 2: a file whose fsync failed must not be written again", sum.Files)
	}
}

func TestDeletedFileIsNoticedBeforeItsRecordsAreAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	if err := s.Append(batch(t, `{"id":"a"}`)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.file.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(batch(t, `{"id":"b"}`)); err == nil {
		t.Fatal("Append acknowledged a record in a deleted file")
	}
	if err := s.Append(batch(t, `{"id":"c"}`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := records(t, dir); got["c"] != 1 {
		t.Errorf("found %v, want c in a new file", got)
	}
}

func TestNameThatIsTakenIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	// Two of one process give the same names within the same second.
	for _, id := range []string{"a", "b"} {
		if err := open(t, Config{Dir: dir}).Append(batch(t, fmt.Sprintf(`{"id":%q}`, id))); err != nil {
			t.Fatal(err)
		}
	}
	if got, sum := records(t, dir); got["a"] != 1 || got["b"] != 1 || sum.Files != 2 {
		t.Errorf("found %v in %d files, want a and b in a file each", got, sum.Files)
	}
}

func TestClosedSpoolRefusesAndLeavesNoEmptyFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	s.sync = func(*os.File) error { return errors.New("no") }
	if err := s.Append(batch(t, `{"id":"a"}`)); err == nil {
		t.Fatal("want an error")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(batch(t, `{"id":"a"}`)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close = %v, want ErrClosed", err)
	}
}

func TestNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no directory":              {},
		"a negative size":           {Dir: t.TempDir(), MaxFileBytes: -1},
		"a file as directory":       {Dir: file},
		"a directory below nothing": {Dir: filepath.Join(t.TempDir(), "no", "spool")},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New accepted %+v", name, cfg)
		}
	}
}

// BenchmarkAppend shows what group commit is worth: the more callers wait,
// the more of them each fsync serves.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := New(Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			var syncs atomic.Int64
			s.sync = func(f *os.File) error {
				syncs.Add(1)
				return f.Sync()
			}
			record := batch(b, `{"id":"a","pad":"`+strings.Repeat("x", 200)+`"}`)
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Append(record); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/float64(syncs.Load()), "records/fsync")
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
