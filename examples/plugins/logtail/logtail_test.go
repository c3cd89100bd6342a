package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tail is one task and what it has delivered.
type tail struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	texts  []string
	cuts   []bool
	cursor string
}

func newPlugin() *logtail { return &logtail{log: slog.New(slog.DiscardHandler)} }

// records reads a result.
func records(payload []byte) (list []record, err error) {
	for line := range bytes.Lines(payload) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		list = append(list, r)
	}
	return list, nil
}

func follow(t *testing.T, settings, cursor string) *tail {
	t.Helper()
	p := newPlugin()
	if err := p.Start(t.Context(), []byte(settings)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := &tail{t: t, cancel: cancel, done: make(chan error, 1), cursor: cursor}
	go func() {
		f.done <- p.Execute(ctx, sdk.Task{Capability: "collect", Cursor: cursor}, func(r sdk.Result) error {
			recs, err := records(r.Payload)
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, rec := range recs {
				f.texts, f.cuts = append(f.texts, rec.Text), append(f.cuts, rec.Cut)
			}
			f.cursor = r.Cursor
			return err
		})
	}()
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *tail) stop() string {
	f.cancel()
	if err := <-f.done; !errors.Is(err, context.Canceled) {
		f.t.Errorf("Execute: %v", err)
	}
	f.done <- context.Canceled // for the next stop
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor
}

func (f *tail) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.texts)
}

func (f *tail) await(want ...string) {
	f.t.Helper()
	waittest.Nil(f.t, "all lines arrive", func() error {
		if got := f.got(); !slices.Equal(got, want) {
			return fmt.Errorf("want %q, found %q", want, got)
		}
		return nil
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func config(pattern string) string {
	return fmt.Sprintf(`{"paths":[%q],"interval":"10ms","linger":"100ms","max_line_bytes":20}`, pattern)
}

func TestLinesAreFollowedAcrossRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "1\n2\n")
	f := follow(t, config(path), "")
	f.await("1", "2")
	held, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	move(t, path, path+".1")
	write(t, path, "4\n")
	f.await("1", "2", "4")
	// The writer has not reopened its log yet.
	if _, err := held.WriteString("3\n"); err != nil {
		t.Fatal(err)
	}
	f.await("1", "2", "4", "3")
	if _, err := held.WriteString("unfinished"); err != nil {
		t.Fatal(err)
	}
	f.await("1", "2", "4", "3", "unfinished")
}

// stepper drives a task look by look.
type stepper struct {
	*follower
	t      *testing.T
	texts  []string
	recs   []record
	cursor string
}

func newStepper(t *testing.T, settings string) *stepper {
	t.Helper()
	parsed, err := parseSettings([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	s := &stepper{t: t}
	s.follower = newFollower(parsed, slog.New(slog.DiscardHandler), func(r sdk.Result) error {
		recs, err := records(r.Payload)
		for _, rec := range recs {
			s.texts = append(s.texts, rec.Text)
		}
		s.recs, s.cursor = append(s.recs, recs...), r.Cursor
		return err
	})
	t.Cleanup(func() { s.close() })
	return s
}

// again is the task begun anew from the last cursor, by another process.
func (s *stepper) again() {
	s.t.Helper()
	at, err := parseCursor(s.cursor)
	if err != nil {
		s.t.Fatal(err)
	}
	s.close()
	old := s.follower
	s.follower = newFollower(old.settings, old.log, old.send)
	s.resume(at, time.Now())
}

func (s *stepper) step(atEnd bool) {
	s.t.Helper()
	s.look(atEnd)
	s.read()
	if err := summary(s.problems); err != nil {
		s.t.Fatal(err)
	}
}

// read reads all that there is, after a look.
func (s *stepper) read() {
	s.t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.drain(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stepper) want(texts ...string) {
	s.t.Helper()
	if !slices.Equal(s.texts, texts) {
		s.t.Errorf("want %q, found %q", texts, s.texts)
	}
}

func TestRotatedNameThatMatchesIsNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, filepath.Join(dir, "app.log*")))
	write(t, path, "1\n")
	s.step(false)
	move(t, path, path+".1")
	write(t, path, "2\n")
	s.step(false)
	move(t, path+".1", path+".2")
	move(t, path, path+".1")
	write(t, path, "3\n")
	for range 5 {
		s.step(false)
	}
	if want := []string{"1", "2", "3"}; !slices.Equal(s.texts, want) {
		t.Errorf("want %q, found %q", want, s.texts)
	}
	if len(s.files) != 3 {
		t.Errorf("want 3 files open, found %d", len(s.files))
	}
}

func TestFileThatIsGoneIsClosedAtLast(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, path))
	write(t, path, "1\n")
	s.step(false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.step(false)
	}
	if len(s.files) != 0 {
		t.Errorf("%d deleted files are held open", len(s.files))
	}
}

func TestRestartResumesAtTheCursor(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, path string)
		want      []string
	}{
		"grown":                    {func(t *testing.T, p string) { write(t, p, "3\n") }, []string{"3"}},
		"unchanged":                {func(t *testing.T, p string) { write(t, p, "") }, nil},
		"rotated":                  {func(t *testing.T, p string) { write(t, p, "3\n"); move(t, p, p+".1"); write(t, p, "4\n") }, []string{"3", "4"}},
		"rotated twice":            {func(t *testing.T, p string) { write(t, p, "3\n"); move(t, p, p+".2"); write(t, p, "4\n") }, []string{"3", "4"}},
		"truncated":                {func(t *testing.T, p string) { truncate(t, p); write(t, p, "n\n") }, []string{"n"}},
		"truncated and grown past": {func(t *testing.T, p string) { truncate(t, p); write(t, p, "new\nnew\nnew\n") }, []string{"new", "new", "new"}},
		"deleted":                  {func(t *testing.T, p string) { _ = os.Remove(p); write(t, p, "a\nb\nc\nd\n") }, []string{"a", "b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.log")
			write(t, path, "1\n2\n")
			f := follow(t, config(path), "")
			f.await("1", "2")
			cursor := f.stop()
			c.meanwhile(t, path)
			f = follow(t, config(path), cursor)
			f.await(c.want...)
			write(t, path, "end\n")
			f.await(append(c.want, "end")...)
		})
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
}

func TestCopyTruncateBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "1\n2\n")
	f := follow(t, config(path), "")
	f.await("1", "2")
	truncate(t, path)
	write(t, path, "three, longer\n")
	f.await("1", "2", "three, longer")
}

func TestLinesAreWholeAndBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "begun")
	f := follow(t, config(path), "")
	write(t, path, " and ended\r\n\n")
	f.await("begun and ended", "")
	write(t, path, strings.Repeat("x", 45)+"\n"+strings.Repeat("y", 20)+"\n")
	f.await("begun and ended", "", strings.Repeat("x", 20), strings.Repeat("x", 20), "xxxxx", strings.Repeat("y", 20))
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := []bool{false, false, true, true, false, false}; !slices.Equal(f.cuts, want) {
		t.Errorf("cut: want %v, found %v", want, f.cuts)
	}
}

func TestStartAtTheEndSkipsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	write(t, path, "old\n")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"start":"end"}`, filepath.Join(dir, "*.log")))
	s.step(true)
	write(t, path, "new\n")
	write(t, filepath.Join(dir, "b.log"), "of a new file\n")
	s.step(false)
	if want := []string{"new", "of a new file"}; !slices.Equal(s.texts, want) {
		t.Errorf("want %q, found %q", want, s.texts)
	}
}

func TestEveryLineArrivesOnceUnderRotationAndRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	const lines = 3000
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range lines {
			write(t, path, fmt.Sprintln(i))
			if i%211 == 210 {
				move(t, path, fmt.Sprintf("%s.%d", path, i))
			}
		}
	}()
	seen, total, cursor := map[string]int{}, 0, ""
	for total < lines {
		f := follow(t, config(path+"*"), cursor)
		want := min(total+97, lines)
		waittest.Until(t, fmt.Sprintf("%d lines arrive", want), func() bool { return total+len(f.got()) >= want })
		cursor = f.stop()
		for _, text := range f.got() {
			seen[text]++
			total++
		}
	}
	<-written
	for i := range lines {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("line %d arrived %d times", i, n)
		}
	}
}

func TestBadSettingsAndCursorsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ settings, says string }{
		"none":          {``, "paths: want at least one"},
		"relative":      {`{"paths":["log/*.log"]}`, `found "log/*.log"`},
		"bad pattern":   {`{"paths":["/var/["]}`, `found "/var/["`},
		"too often":     {`{"paths":["/x"],"interval":"1ms"}`, "at least 10ms"},
		"start":         {`{"paths":["/x"],"start":"middle"}`, "beginning or end"},
		"linger":        {`{"paths":["/x"],"linger":"-1s"}`, "linger"},
		"line":          {`{"paths":["/x"],"max_line_bytes":-1}`, "max_line_bytes"},
		"unknown field": {`{"path":"/x"}`, `unknown field "path"`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := newPlugin().Start(t.Context(), []byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
	p := newPlugin()
	if err := p.Start(t.Context(), []byte(`{"paths":["/x"]}`)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"7", "{", `{"schema":2}`, `{"schema":1,"files":[{"path":"/x","offset":-1}]}`, `{"schema":1,"files":[{"path":"/x","head_len":1000000000}]}`,
		`{"schema":1,"files":[{"path":"x"}]}`, `{"schema":1,"files":[{"path":"/x"},{"path":"/y"}]}`, strings.Repeat("x", maxCursor+1)} {
		err := p.Execute(t.Context(), sdk.Task{Cursor: bad}, func(sdk.Result) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "cursor") {
			t.Errorf("cursor %s: found %v", bad, err)
		}
	}
}
