package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// stamp are long enough lines that a fingerprint does not hold all of a file.
func stamp(from, to int) (text string, lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("2026-11-26T05:%02d:00Z %d %s", i%60, i, strings.Repeat("x", 30)))
	}
	return strings.Join(lines, "\n") + "\n", lines
}

func shift(t *testing.T, path string) {
	t.Helper()
	for n := 30; n > 0; n-- {
		from := path
		if n > 1 {
			from = fmt.Sprintf("%s.%d", path, n-1)
		}
		if _, err := os.Stat(from); err == nil {
			move(t, from, fmt.Sprintf("%s.%d", path, n))
		}
	}
}

// touch gives a file the time of its last change.
func touch(t *testing.T, path string, modified time.Time) {
	t.Helper()
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// variants runs a test of what happens between two looks, of one process and
// of two, with a pattern that leads to the rotated names and with one that does
// not.
func variants(t *testing.T, test func(t *testing.T, s *stepper, path string, restart func())) {
	t.Helper()
	for _, end := range []string{"", "*"} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("app.log%s, restart %v", end, restarts), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "app.log")
				s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"1h"}`, path+end))
				test(t, s, path, func() {
					if restarts {
						s.again()
					}
				})
			})
		}
	}
}

func TestLogRotatedSeveralTimesBetweenTwoLooksLosesNothing(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		write(t, path+".2", "of before\n")
		touch(t, path+".2", time.Now().Add(-time.Hour))
		write(t, path+"-extra", "of another program\n")
		write(t, path, "1\n2\n")
		s.step(false)
		s.texts = nil // of before is read if the pattern leads to it
		write(t, path, "3\n")
		for i := range 5 {
			shift(t, path)
			write(t, path, fmt.Sprintf("%d\n", 4+i))
		}
		restart()
		s.step(false)
		write(t, path, "9\n")
		shift(t, path)
		restart()
		s.step(false) // nothing has the name
		shift(t, path)
		write(t, path, "10\n")
		restart()
		s.step(false)
		restart()
		s.step(false)
		slices.Sort(s.texts) // files written within the same tick have no order
		s.want("10", "3", "4", "5", "6", "7", "8", "9")
	})
}

func TestLinesThatAreInTheCopyAloneAreReadThere(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		text, want := stamp(0, 20)
		write(t, path, text)
		s.step(false)
		for i := range 3 { // each copied and truncated before anybody looks
			text, lines := stamp(20+5*i, 25+5*i)
			write(t, path, text)
			want = append(want, lines...)
			for n := 3; n > 1; n-- {
				if _, err := os.Stat(fmt.Sprintf("%s.%d", path, n-1)); err == nil {
					move(t, fmt.Sprintf("%s.%d", path, n-1), fmt.Sprintf("%s.%d", path, n))
				}
			}
			copyFile(t, path, path+".1")
			truncate(t, path)
		}
		text, lines := stamp(35, 100) // longer than what was there before
		write(t, path, text)
		restart()
		s.step(false)
		restart()
		s.step(false)
		s.want(append(want, lines...)...)
	})
}

func TestCopyThatIsNotCompleteYetIsNotReadAsANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"1h"}`, path+"*"))
	text, want := stamp(0, 50)
	write(t, path, text)
	s.step(false)
	write(t, path+".1", "")
	for _, part := range []string{text[:100], text[100:1000], text[1000:]} {
		s.step(false)
		write(t, path+".1", part)
	}
	s.step(false)
	// After the copying, before the truncating, and by the clock of the files as well.
	touch(t, path+".1", time.Now().Add(-time.Second))
	more, lines := stamp(50, 52)
	write(t, path, more)
	s.step(false)
	truncate(t, path)
	s.step(false)
	write(t, path, "new\n")
	s.step(false)
	s.again()
	s.step(false)
	s.want(append(append(want, lines...), "new")...)
}

func TestCopyOfALogThatGoesOnIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, path+"*"))
	text, want := stamp(0, 50)
	write(t, path, text)
	s.step(false)
	copyFile(t, path, path+".1")
	for range 3 {
		s.step(false)
	}
	s.again()
	s.step(false)
	s.want(want...)
}

// A rotated file that begins as its successor does, by more than a fingerprint
// holds, is no copy of it.
func TestLogsWithTheSameBannerAreToldApart(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		banner := strings.Repeat("=", 300) + "\n"
		write(t, path, banner+"1\n")
		s.step(false)
		write(t, path, "2\n")
		shift(t, path)
		write(t, path, banner+"3\n4\n5\n")
		shift(t, path)
		write(t, path, banner)
		restart()
		s.step(false)
		write(t, path, "6\n")
		restart()
		s.step(false)
		s.texts = slices.DeleteFunc(s.texts, func(line string) bool { return line[0] == '=' })
		slices.Sort(s.texts)
		s.want("1", "2", "3", "4", "5", "6")
	})
}

func TestTruncatedLogThatHasGrownPastItsOldEndUnderTheSameBannerBeginsAnew(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		banner := strings.Repeat("=", 300) + "\n"
		write(t, path, banner+"1\n")
		s.step(false)
		truncate(t, path)
		write(t, path, banner+"2\n3\n4\n")
		restart()
		s.step(false)
		s.want(banner[:300], "1", banner[:300], "2", "3", "4")
	})
}

func TestOtherFileWithTheInodeOfACursorIsReadFromItsBeginning(t *testing.T) {
	for name, at := range map[string]string{"at the path": "app.log", "at a rotated name": "app.log.7"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newStepper(t, fmt.Sprintf(`{"paths":[%q]}`, filepath.Join(dir, "app.log*")))
			write(t, filepath.Join(dir, "app.log"), "1\n2\n")
			s.step(false)
			c, err := parseCursor(s.cursor)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "app.log")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, at)
			write(t, path, "3\n4\n5\n")
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			// As ext4 does by itself.
			c.Files[0].Dev, c.Files[0].Inode = identity(path, fi).dev, identity(path, fi).inode
			if s.cursor, err = c.String(); err != nil {
				t.Fatal(err)
			}
			s.again()
			s.step(false)
			s.want("1", "2", "3", "4", "5")
		})
	}
}

func TestCompressedFilesAreIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, path+"*"))
	write(t, path, "1\n")
	s.step(false)
	for i, ext := range []string{".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".br", ".Z", ".zip", ".7z"} {
		write(t, fmt.Sprintf("%s.%d%s", path, i, ext), "compressed\n")
	}
	move(t, path, path+".20") // gzip makes another file of it
	write(t, path+".20.gz", "compressed\n")
	if err := os.Remove(path + ".20"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "2\n")
	for range 3 {
		s.step(false)
	}
	s.want("1", "2")
	if len(s.files) != 1 {
		t.Errorf("%d files are held open, want app.log alone", len(s.files))
	}
}

func TestRotatedNames(t *testing.T) {
	for name, want := range map[string]bool{
		"app.log.1": true, "app.log.old": true, "app.log-20260131": true, "app.log-20260131-1769817600": true,
		"app.log.2026-01-31_10-00": true, "app-2026-01-31T10-00-00.000.log": true, "app_20260131.log": true,
		"app.log": false, "app.log.1.gz": false, "app.log.bak~": false, "app.log.": false, "app.logs": false,
		"app-2.log": false, "app-error.log": false, "app.log-error": false, "app.log.lock": false, "other.log.1": false,
	} {
		if got := rotated("app.log", name); got != want {
			t.Errorf("rotated(app.log, %s) = %v", name, got)
		}
	}
	if rotated("app", "app-20260131") != true || rotated("app", "app20260131") {
		t.Error("a log without extension")
	}
}

// TestEveryLineArrivesOnceUnderShiftingAndRestarts: only the log's own name is
// known, and its files move on while they are looked for.
func TestEveryLineArrivesOnceUnderShiftingAndRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	const lines = 3000
	written := make(chan struct{})
	// What was rotated before the task began is not the log's.
	write(t, path, "0\n")
	f := follow(t, config(path), "")
	f.await("0")
	cursor, got := f.stop(), f.got()
	go func() {
		defer close(written)
		for i := 1; i < lines; i++ {
			write(t, path, fmt.Sprintln(i))
			if i%101 == 100 {
				shift(t, path)
			}
		}
	}()
	for len(got) < lines {
		f := follow(t, config(path), cursor)
		want := min(len(got)+97, lines)
		waittest.Until(t, fmt.Sprintf("%d lines arrive", want), func() bool { return len(got)+len(f.got()) >= want })
		cursor = f.stop()
		got = append(got, f.got()...)
	}
	<-written
	seen := map[string]int{}
	for _, text := range got {
		seen[text]++
	}
	for i := range lines {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("line %d arrived %d times", i, n)
		}
	}
}

func TestRotatedFileIsFollowedWhileItsWriterHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, path))
	write(t, path, "1\n")
	held, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	s.step(false)
	shift(t, path)
	write(t, path, "2\n")
	for range 3 { // longer than linger
		s.step(false)
	}
	if _, err := io.WriteString(held, "3\n"); err != nil {
		t.Fatal(err)
	}
	s.again()
	s.step(false)
	shift(t, path)
	write(t, path, "4\n")
	s.again()
	s.step(false)
	s.want("1", "2", "3", "4")
}

// A directory that is read while it changes may change once more without a new
// time.
func TestQuietDirectoryIsNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	write(t, path, "1\n")
	long := time.Now().Add(-time.Hour)
	touch(t, dir, long)
	f := finder{patterns: []string{filepath.Join(dir, "*.log")}}
	now := time.Now()
	if f.fresh(now) {
		t.Error("what was never read counts as known")
	}
	f.scan(now)
	if !f.fresh(now) || f.fresh(now.Add(rescanEvery)) {
		t.Error("a quiet directory is read at every look, or never again")
	}
	write(t, filepath.Join(dir, "b.log"), "")
	if f.fresh(now) {
		t.Error("a new file is not noticed")
	}
	f.scan(now)
	if f.fresh(now) {
		t.Error("a directory that has changed this moment counts as known")
	}
}

// TestCopyThatWasBeingRenamedAtTheRestartIsNotReadTwice: the cursor knows it, but
// it was at none of its names when it was looked for, and the log has been
// copied and truncated once more before the next look.
func TestCopyThatWasBeingRenamedAtTheRestartIsNotReadTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"1h"}`, path+"*"))
	rotate := func() {
		// Within one tick of the file system's clock.
		now := time.Now()
		copyFile(t, path, path+".1")
		truncate(t, path)
		for _, name := range []string{path, path + ".1"} {
			touch(t, name, now)
		}
	}
	text, want := stamp(0, 20)
	write(t, path, text)
	s.step(false)
	text, lines := stamp(20, 25)
	write(t, path, text)
	want = append(want, lines...)
	rotate()
	s.step(false)
	text, lines = stamp(25, 27)
	write(t, path, text)
	want = append(want, lines...)
	// Seen when the copy was: a look takes its time.
	fi, err := os.Stat(path + ".1")
	if err == nil {
		err = os.Chtimes(path, fi.ModTime(), fi.ModTime())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.step(false)
	s.want(want...)

	s.again()
	elsewhere := filepath.Join(t.TempDir(), "copy")
	move(t, path+".1", elsewhere)
	s.find(time.Now())
	move(t, elsewhere, path+".2")
	text, lines = stamp(27, 60)
	write(t, path, text)
	want = append(want, lines...)
	rotate()
	now := time.Now()
	since := s.modified()
	s.finder.scan(now)
	found, _ := s.visit(now)
	for _, f := range slices.Clone(s.files) {
		s.inspect(f, since, now)
	}
	s.adopt(found, false, now)
	if _, err := s.drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.step(false)
	s.want(want...)
	if _, err := parseCursor(s.cursor); err != nil {
		t.Errorf("the cursor cannot be resumed at: %v", err)
	}
}

// TestCopyMadeBetweenALookAndTheReadingIsRead, once, also if nothing had been read
// of the log by which to tell that it was truncated.
func TestCopyMadeBetweenALookAndTheReadingIsRead(t *testing.T) {
	for name, seen := range map[string]string{"of an empty log": "", "of a log that was looked at": "1\n"} {
		t.Run(name, func(t *testing.T) {
			variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
				write(t, path, seen)
				s.look(false)
				if err := s.result(nil); err != nil { // as a task begins
					t.Fatal(err)
				}
				write(t, path, "2\n")
				copyFile(t, path, path+".1")
				truncate(t, path)
				write(t, path, "3\n")
				s.read()
				restart()
				s.step(false)
				s.step(false)
				s.want(append(strings.Fields(seen), "2", "3")...)
			})
		})
	}
}

// TestCopyThatIsOlderThanALineThatWasNotReadIsRead: a look has seen the line, but
// the log was truncated before the reading.
func TestCopyThatIsOlderThanALineThatWasNotReadIsRead(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		write(t, path, "1\n")
		s.step(false)
		write(t, path, "2\n")
		copyFile(t, path, path+".1")
		write(t, path, "lost\n")
		touch(t, path, time.Now().Add(time.Second)) // by the clock of the files as well
		s.look(false)
		truncate(t, path)
		write(t, path, "3\n")
		s.read()
		restart()
		s.step(false)
		s.step(false)
		s.want("1", "2", "3")
	})
}

// TestCopyOfALogThatWasReadInPartIsRead from there, although lines came after it was
// made, which are lost.
func TestCopyOfALogThatWasReadInPartIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q]}`, path))
	text, want := stamp(0, 1)
	write(t, path, text)
	s.step(false)
	text, lines := stamp(1, 4*readBytes/len(text))
	want = append(want, lines...)
	write(t, path, text)
	copyFile(t, path, path+".1")
	write(t, path, "lost\n")
	touch(t, path, time.Now().Add(time.Second)) // by the clock of the files as well
	s.look(false)
	ctx, cancel := context.WithCancel(t.Context())
	send := s.send
	s.send = func(r sdk.Result) error {
		if len(s.texts)*len(text)/len(lines) > readBytes {
			cancel() // what was read at once is told of in several results
		}
		return send(r)
	}
	if _, err := s.drain(ctx); !errors.Is(err, context.Canceled) || len(s.texts) < 2 || len(s.texts) >= len(want) {
		t.Fatalf("read %d of %d lines, %v", len(s.texts), len(want), err)
	}
	s.send = send
	truncate(t, path)
	s.again()
	s.step(false)
	if !slices.Equal(s.texts, want) {
		t.Errorf("want %d lines, found %d", len(want), len(s.texts))
	}
}

// TestCopyIsNotPutAsideBeforeTheLogIsReadAsFar, however long the log takes to be
// truncated.
func TestCopyIsNotPutAsideBeforeTheLogIsReadAsFar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q],"linger":"0s"}`, path+"*"))
	write(t, path, "1\n")
	s.step(false)
	write(t, path, "2\n")
	copyFile(t, path, path+".1")
	for range 3 {
		s.look(false) // it is slow to read
	}
	truncate(t, path)
	s.read()
	write(t, path, "3\n")
	s.step(false)
	s.step(false)
	s.want("1", "2", "3")
}

// TestCopyThatIsOlderThanALineThatWasReadIsNotReadAgain, also by a process that did
// not see it before the truncation.
func TestCopyThatIsOlderThanALineThatWasReadIsNotReadAgain(t *testing.T) {
	variants(t, func(t *testing.T, s *stepper, path string, restart func()) {
		text, want := stamp(0, 20)
		write(t, path, text)
		s.step(false)
		copyFile(t, path, path+".1")
		touch(t, path+".1", time.Now().Add(-time.Second))
		more, lines := stamp(20, 21)
		write(t, path, more)
		s.step(false)
		truncate(t, path)
		write(t, path, "new\n")
		restart()
		s.step(false)
		s.step(false)
		s.want(append(append(want, lines...), "new")...)
	})
}
