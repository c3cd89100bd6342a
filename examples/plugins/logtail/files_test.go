package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestFilesAppearAndVanishUnderPatternsAndDirectories(t *testing.T) {
	dir := t.TempDir()
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q,%q,%q],"linger":"0s"}`,
		filepath.Join(dir, "*", "[ab].log"), filepath.Join(dir, "all"), filepath.Join(dir, "later", "one.txt")))
	s.step(false) // nothing is there
	for _, path := range []string{"x/a.log", "x/c.log", "x/.b.log", "y/b.log", "all/1", "all/.hidden", "all/sub/2", "later/one.txt", "later/two.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, path), path+"\n")
	}
	s.step(false)
	slices.Sort(s.texts)
	s.want("all/1", "later/one.txt", "x/a.log", "y/b.log")
	if err := os.RemoveAll(filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.step(false)
	}
	if len(s.files) != 3 {
		t.Errorf("%d files are held open, want 3", len(s.files))
	}
}

func TestFilesBeyondTheBoundAreToldAndTheNewestFollowed(t *testing.T) {
	dir := t.TempDir()
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"max_files":3,"linger":"0s"}`, filepath.Join(dir, "*.log")))
	long := time.Now().Add(-time.Hour)
	for i := range 5 {
		path := filepath.Join(dir, fmt.Sprintf("%d.log", i))
		write(t, path, fmt.Sprintf("%d\n", i))
		if err := os.Chtimes(path, long, long.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	look := func() string {
		t.Helper()
		s.look(false)
		if _, err := s.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(summary(s.problems))
	}
	if says := look(); !strings.Contains(says, "2 files are not followed, such as "+filepath.Join(dir, "0.log")+": more than 3 match") {
		t.Errorf("it says %q", says)
	}
	s.want("2", "3", "4")
	for i := 2; i < 5; i++ {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("%d.log", i))); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "there is room for the others", func() bool { return look() == "<nil>" })
	s.want("2", "3", "4", "0", "1")
}

// Rotated files that no pattern leads to give way, so that a log that is
// rotated for years does not reach the bound.
func TestRotatedFilesThatWereReadMakeRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"max_files":3,"linger":"0s"}`, path))
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		write(t, path, fmt.Sprintln(i))
		s.step(false)
		s.step(false)
		shift(t, path)
	}
	s.step(false)
	s.want(want...)
	if len(s.files) > 3 {
		t.Errorf("%d files are held open, want 3", len(s.files))
	}
}

func TestStartAtTheEndIsKeptBeforeTheFirstLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	text, _ := stamp(0, 100)
	write(t, path, text+"unfini")
	settings := fmt.Sprintf(`{"paths":[%q],"interval":"10ms","start":"end"}`, path)
	f := follow(t, settings, "")
	waittest.Until(t, "there is a cursor", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.cursor != ""
	})
	cursor := f.stop()
	write(t, path, "shed\nnext\n")
	f = follow(t, settings, cursor)
	f.await("unfinished", "next")
}

func TestChangedPathsLeaveWhatWasFollowed(t *testing.T) {
	dir := t.TempDir()
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q]}`, filepath.Join(dir, "*.log")))
	write(t, filepath.Join(dir, "a.log"), "1\n")
	write(t, filepath.Join(dir, "b.log"), "1\n")
	s.step(false)
	write(t, filepath.Join(dir, "a.log"), "2 of a\n")
	write(t, filepath.Join(dir, "b.log"), "2 of b\n")
	s.settings.Paths = []string{filepath.Join(dir, "b.log")}
	s.again()
	s.step(false)
	s.want("1", "1", "2 of b")
}

// A log of which there is much to read does not keep the others waiting.
func TestFilesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q]}`, filepath.Join(dir, "*.log")))
	line := strings.Repeat("x", 999) + "\n"
	write(t, filepath.Join(dir, "a.log"), strings.Repeat(line, 2000))
	write(t, filepath.Join(dir, "b.log"), "short\n")
	s.step(false)
	if at := slices.Index(s.texts, "short"); at < 0 || at > 1000 {
		t.Errorf("the short log was read behind %d lines of the long one", at)
	}
	if len(s.texts) != 2001 {
		t.Errorf("%d lines, want 2001", len(s.texts))
	}
}

func TestResultsOfManyShortLinesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, strings.Repeat("\n", 300_000))
	parsed, err := parseSettings(fmt.Appendf(nil, `{"paths":[%q]}`, path))
	if err != nil {
		t.Fatal(err)
	}
	lines, longest := 0, 0
	f := newFollower(parsed, slog.New(slog.DiscardHandler), func(r sdk.Result) error {
		lines += bytes.Count(r.Payload, []byte("\n"))
		longest = max(longest, len(r.Payload))
		return nil
	})
	defer f.close()
	f.look(false)
	for more := true; more && err == nil; {
		more, err = f.drain(t.Context())
	}
	if err != nil || lines != 300_000 || longest > batchBytes+1000 {
		t.Errorf("%d lines, the longest result has %d bytes, %v", lines, longest, err)
	}
}

func TestCutLineIsToldOnceForEachFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"max_line_bytes":10}`, path))
	var log waittest.Log
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	write(t, path, "short\n"+strings.Repeat("x", 45)+"\n")
	s.step(false)
	write(t, path, strings.Repeat("y", 45)+"\n")
	s.step(false)
	if log.Count("level=WARN") != 1 || !log.Has("path="+path+" offset=6") {
		t.Errorf("it says\n%s", log.String())
	}
}

func TestEventWaitsForItsEndAndNoLonger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	settings := fmt.Sprintf(`{"paths":[%q],"interval":"10ms","multiline":{"first":"^[0-9]","wait":"%s"}}`, path, "1h")
	f := follow(t, settings, "")
	write(t, path, "1 a\n at b\n at")
	write(t, path, " c\n2 d\n")
	f.await("1 a\n at b\n at c")
	// The second event is not complete: it is not lost in a restart either.
	cursor := f.stop()
	write(t, path, " at e\n")
	f = follow(t, strings.ReplaceAll(settings, "1h", "50ms"), cursor)
	f.await("2 d\n at e")
}

func TestUnfinishedEventOfARotatedFileIsDelivered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	f := follow(t, fmt.Sprintf(`{"paths":[%q],"interval":"10ms","linger":"50ms","multiline":{"first":"^[0-9]","wait":"1h"}}`, path), "")
	write(t, path, "0\n1 a\n b\n c")
	f.await("0")
	move(t, path, path+".1")
	f.await("0", "1 a\n b\n c")
}

func FuzzCursor(f *testing.F) {
	f.Add(`{"schema":1,"files":[{"path":"/x","inode":1,"offset":3,"head":1,"head_len":3,"tail":1,"tail_len":3}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil || c == nil {
			return
		}
		again, err := c.String()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCursor(again); err != nil {
			t.Fatal(err)
		}
		// What it says about a file is harmless, whatever the file is.
		for _, p := range c.Files {
			_, _ = p.in(strings.NewReader("text"), 4)
		}
	})
}

// TestGoldenCursorIsRead: an update of the plugin goes on where the version
// before stopped.
func TestGoldenCursorIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/cursor.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCursor(string(data))
	if err != nil || len(c.Files) != 1 {
		t.Fatalf("found %+v, %v", c, err)
	}
	want := place{
		Path: "/var/log/app/app.log", Dev: 65024, Inode: 12321709, Offset: 294, Modified: 1795670596559856872,
		fingerprint: fingerprint{Head: 1823174356, HeadLen: 256, Tail: 442219873, TailLen: 256},
	}
	if c.Files[0] != want {
		t.Errorf("want %+v, found %+v", want, c.Files[0])
	}
}

// BenchmarkIdleLook is what a look costs while nothing is written.
func BenchmarkIdleLook(b *testing.B) {
	dir := b.TempDir()
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.log", i)), []byte("line\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, long, long); err != nil {
		b.Fatal(err)
	}
	parsed, err := parseSettings(fmt.Appendf(nil, `{"paths":[%q]}`, filepath.Join(dir, "*.log")))
	if err != nil {
		b.Fatal(err)
	}
	f := newFollower(parsed, slog.New(slog.DiscardHandler), func(sdk.Result) error { return nil })
	defer f.close()
	for b.Loop() {
		f.look(false)
		if _, err := f.drain(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
