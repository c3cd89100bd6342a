package pluginlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// log is a Log that the test writes.
type log struct {
	Log
	t *testing.T
}

func newLog(t *testing.T) log {
	t.Helper()
	return log{Log{t.TempDir(), "p.log"}, t}
}

func (l log) path(n int) string {
	if n == 0 {
		return filepath.Join(l.Dir, l.Name)
	}
	return filepath.Join(l.Dir, fmt.Sprintf("%s.%d", l.Name, n))
}

func (l log) write(text string) {
	l.t.Helper()
	f, err := os.OpenFile(l.path(0), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		l.t.Fatal(err)
	}
}

// rotate is what the host does; of three files the oldest goes.
func (l log) rotate() {
	l.t.Helper()
	for n := 1; n >= 0; n-- {
		if err := os.Rename(l.path(n), l.path(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.t.Fatal(err)
		}
	}
}

func TestLastLinesReachAcrossRotatedFiles(t *testing.T) {
	l := newLog(t)
	if err := l.Last(1, func(string) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
	l.write("1\n2\n")
	l.rotate()
	l.write("3\n")
	l.rotate()
	l.write("4\n" + strings.Repeat("x", MaxLine+100) + "\nhalf")
	for n, want := range map[int][]string{-1: {"1", "2", "3", "4", "x"}, 0: nil, 1: {"x"}, 4: {"2", "3", "4", "x"}, 100: {"1", "2", "3", "4", "x"}} {
		var got []string
		err := l.Last(n, func(line string) error {
			if len(line) > MaxLine {
				t.Errorf("a line of %d bytes", len(line))
			}
			got = append(got, line[:1])
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("the last %d: %q, %v, want %q", n, got, err, want)
		}
	}
}

// TestFollowingMissesNoLineThroughRotation: the lines around a rotation are
// those of the moment when much happens.
func TestFollowingMissesNoLineThroughRotation(t *testing.T) {
	l := newLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	lines, ended, lost := make(chan string, 100), make(chan error, 1), make(chan bool, 1)
	go func() {
		ended <- l.Follow(ctx, 2, func(line string) error {
			lines <- line
			return nil
		}, func() { lost <- true })
	}()
	expect := func(all ...string) {
		t.Helper()
		for _, want := range all {
			if got := waittest.Next(t, "the line "+want, lines); got != want {
				t.Errorf("found %q, want %q", got, want)
			}
		}
	}
	l.write("1\n2\n") // it is waited for
	expect("1", "2")
	l.write("3\nha")
	expect("3")
	l.write("lf\n")
	l.rotate()
	l.write("4\n")
	expect("half", "4")
	l.write("5\n")
	l.rotate()
	l.write("6\n")
	l.rotate()
	l.write("7\n")
	expect("5", "6", "7")
	if err := os.Truncate(l.path(0), 0); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the lines of a file that was cut come", func() bool {
		l.write("8\n")
		select {
		case line := <-lines:
			return line == "8"
		default:
			return false
		}
	})
	if len(lost) > 0 {
		t.Error("lines are said to be lost")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLinesThatWentUnreadAreSaidToBeLost(t *testing.T) {
	l := newLog(t)
	l.write("1\n")
	files, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	at := newReader(files[0])
	for range 3 {
		l.rotate()
		l.write("x\n")
	}
	lost, got := false, 0
	at, err = l.more(at, func(string) error { got++; return nil }, func() { lost = true })
	at.close()
	if err != nil || !lost || got != 4 {
		t.Errorf("%d lines, lost: %v, %v", got, lost, err)
	}
}
