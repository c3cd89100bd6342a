package spool

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const streamRecords = 60

// streamWriter appends the records that the stream's mark says are not there
// yet, three at a time, and kills itself where SPOOL_KILL says: "stored 4" is
// the fourth time that it comes to the step stored.
func streamWriter() int {
	err := func() error {
		s, err := New(Config{Dir: os.Getenv("SPOOL_STREAM"), MaxFileBytes: 200})
		if err != nil {
			return err
		}
		step, nth, _ := strings.Cut(os.Getenv("SPOOL_KILL"), " ")
		left, _ := strconv.Atoi(nth)
		s.step = func(name string) {
			if name == step {
				if left--; left == 0 {
					self, _ := os.FindProcess(os.Getpid())
					_ = self.Kill()
					select {}
				}
			}
		}
		t, err := s.OpenStream(statePath(os.Getenv("SPOOL_STREAM")))
		if err != nil {
			return err
		}
		at, _ := strconv.Atoi(t.Mark())
		for ; at < streamRecords; at += 3 {
			b, err := Parse(fmt.Appendf(nil, "{\"id\":\"%d\"}\n{\"id\":\"%d\"}\n{\"id\":\"%d\"}", at, at+1, at+2))
			if err == nil {
				err = t.Append(b, strconv.Itoa(at+3))
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(t.Close(), s.Close())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func statePath(dir string) string { return filepath.Join(dir, "app.json") }

func runStreamWriter(t *testing.T, dir, kill string) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SPOOL_STREAM="+dir, "SPOOL_KILL="+kill)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	return err != nil
}

func TestRecordsOfAStreamAreThereOnceWhereverItsWriterIsKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"named", "begun", "stored"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			kills := 0
			for nth := 1; runStreamWriter(t, dir, fmt.Sprintf("%s %d", step, nth)); nth = nth%3 + 1 {
				if kills++; kills == 8 {
					break // with nth 1 it would go on for ever
				}
			}
			if kills == 0 {
				t.Fatal("the writer was never killed")
			}
			if runStreamWriter(t, dir, "") {
				t.Fatal("the writer was killed at last")
			}
			got, sum := records(t, dir)
			for i := range streamRecords {
				if n := got[strconv.Itoa(i)]; n != 1 {
					t.Errorf("record %d is there %d times", i, n)
				}
			}
			if len(got) != streamRecords || len(sum.Torn)+len(sum.Damaged) != 0 {
				t.Errorf("%d records, flaws %v %v", len(got), sum.Torn, sum.Damaged)
			}
		})
	}
}

func openStream(t *testing.T, s *Spool, dir string) *Stream {
	t.Helper()
	st, err := s.OpenStream(statePath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func TestFailedAppendOfAStreamLeavesNothingOnceItIsOpenedAnew(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	st := openStream(t, s, dir)
	if err := st.Append(batch(t, `{"id":"a"}`), "1"); err != nil {
		t.Fatal(err)
	}
	st.file.sync = func(*os.File) error { return errors.New("no") }
	if err := st.Append(batch(t, `{"id":"b"}`), "2"); err == nil {
		t.Fatal("want an error")
	}
	if err := st.Append(batch(t, `{"id":"b"}`), "2"); err == nil {
		t.Error("a stream that has failed takes more")
	}
	if err := s.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
	// After a failed fsync all of it may be in the file all the same.
	f, err := os.OpenFile(filepath.Join(dir, st.state.File), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("{\"id\":\"b\"}\n{\"id\":\"to")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	st = openStream(t, s, dir)
	if st.Mark() != "1" || st.Lost() != 0 {
		t.Errorf("mark %q, want 1; %d bytes lost", st.Mark(), st.Lost())
	}
	if err := st.Append(batch(t, `{"id":"b"}`), "2"); err != nil {
		t.Fatal(err)
	}
	if got, sum := records(t, dir); got["a"] != 1 || got["b"] != 1 || len(got) != 2 || len(sum.Torn) != 0 {
		t.Errorf("found %v, torn %v; want a and b once", got, sum.Torn)
	}
	if s.Records() != 2 {
		t.Errorf("Records() = %d, want 2", s.Records())
	}
}

func TestMarkThatCannotBeSavedTakesItsRecordsWithIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	st := openStream(t, s, dir)
	if err := st.Append(batch(t, `{"id":"a"}`), "1"); err != nil {
		t.Fatal(err)
	}
	if err := st.Append(batch(t, `{"id":"b"}`), strings.Repeat("x", maxStateBytes)); err == nil {
		t.Fatal("a mark that could never be read again was stored")
	}
	if st = openStream(t, s, dir); st.Mark() != "1" {
		t.Errorf("mark %q, want 1", st.Mark())
	}
	if got, _ := records(t, dir); got["a"] != 1 || len(got) != 1 {
		t.Errorf("found %v, want a alone", got)
	}
}

func TestStreamOutlivesItsFilesAndTellsOfThoseCutShort(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	st := openStream(t, s, dir)
	if err := st.Append(batch(t, `{"id":"a"}`), "1"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, st.state.File)
	if err := os.Truncate(path, 4); err != nil {
		t.Fatal(err)
	}
	if st = openStream(t, s, dir); st.Lost() != int64(len("{\"id\":\"a\"}\n"))-4 || st.Mark() != "1" {
		t.Errorf("%d bytes lost, mark %q", st.Lost(), st.Mark())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if st = openStream(t, s, dir); st.Lost() != 0 || st.Mark() != "1" {
		t.Errorf("a file that was collected counts as lost: %d bytes, mark %q", st.Lost(), st.Mark())
	}
	if err := st.Append(Batch{}, "2"); err != nil {
		t.Fatal(err)
	}
	if st = openStream(t, s, dir); st.Mark() != "2" {
		t.Errorf("a mark without records: found %q, want 2", st.Mark())
	}
}

func TestStateThatCannotBeUsedIsNoFreshStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	other := filepath.Join(dir, "20260101T000000Z-1-000000.ndjson")
	if err := os.WriteFile(other, []byte("{\"id\":\"of another\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]string{
		"damaged":                 `{`,
		"newer":                   `{"schema":2,"mark":"4"}`,
		"a file of another":       `{"schema":1,"mark":"4","file":"20260101T000000Z-1-000000.ndjson","bytes":1}`,
		"a file elsewhere":        `{"schema":1,"mark":"4","file":"../x-app.ndjson","bytes":1}`,
		"a length that cannot be": `{"schema":1,"mark":"4","file":"x-app.ndjson","bytes":-1}`,
	} {
		if err := os.WriteFile(statePath(dir), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := s.OpenStream(statePath(dir)); err == nil || !strings.Contains(err.Error(), "app.json") {
			t.Errorf("%s: OpenStream = %v, %v; want an error that names the file", name, st, err)
		}
	}
	if got, _ := records(t, dir); got["of another"] != 1 {
		t.Error("a file of another writer was cut")
	}
	if _, err := s.OpenStream(filepath.Join(dir, "a b.json")); err == nil {
		t.Error("a name that cannot be in a file name was taken")
	}
}

// TestGoldenStateIsRead: a later release finds where an earlier one stopped.
func TestGoldenStateIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/stream.json")
	if err != nil {
		t.Fatal(err)
	}
	st, err := parseState(data, "logtail")
	if err != nil || st.Mark == "" || st.File != "20261126T051500Z-4711-000003-logtail.ndjson" || st.Bytes != 8192 {
		t.Errorf("found %+v, %v", st, err)
	}
}

func FuzzStreamState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"mark":"m","file":"20260101T000000Z-1-000000-app.ndjson","bytes":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := parseState(data, "app")
		if err == nil && st.File != "" && (filepath.Base(st.File) != st.File || !strings.HasSuffix(st.File, "-app.ndjson") || st.Bytes < 0) {
			t.Errorf("%+v would be cut", st)
		}
	})
}
