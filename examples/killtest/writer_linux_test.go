package killtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// writer writes numbered lines to one log and rotates it.
type writer struct {
	path   string
	name   string // of its lines
	copies bool   // how it rotates
	d      dice
	lines  int
}

func (w *writer) line(n int) string { return fmt.Sprintf("%s %d", w.name, n) }

// first writes the first line.
func (w *writer) first() error {
	w.lines++
	return os.WriteFile(w.path, []byte(w.line(w.lines)+"\n"), 0o600)
}

// write writes until ctx ends.
func (w *writer) write(ctx context.Context) error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for wait(ctx, w.d.between(time.Millisecond, 40*time.Millisecond)) {
		for range w.d.IntN(8) {
			w.lines++
			// A line may come in two parts.
			text := w.line(w.lines) + "\n"
			at := w.d.IntN(len(text))
			for _, part := range []string{text[:at], text[at:]} {
				if _, err := f.WriteString(part); err != nil {
					return err
				}
			}
		}
		if !w.d.percent(2) {
			continue
		}
		if f, err = w.rotate(f); err != nil {
			return err
		}
	}
	return nil
}

// rotate puts away what was written, as logrotate does.
func (w *writer) rotate(f *os.File) (*os.File, error) {
	if err := w.shift(); err != nil {
		return f, err
	}
	if w.copies {
		if err := copyFile(w.path, w.path+".1"); err != nil {
			return f, err
		}
		return f, f.Truncate(0)
	}
	if err := errors.Join(f.Close(), os.Rename(w.path, w.path+".1")); err != nil {
		return f, err
	}
	return os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func (w *writer) shift() error {
	last := 1
	for {
		if _, err := os.Stat(fmt.Sprintf("%s.%d", w.path, last)); err != nil {
			break
		}
		last++
	}
	for n := last; n > 1; n-- {
		if err := os.Rename(fmt.Sprintf("%s.%d", w.path, n-1), fmt.Sprintf("%s.%d", w.path, n)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// missing and repeated say which of the lines are not there once.
func (w *writer) judge(stored map[string]int) (missing, repeated []string) {
	for n := 1; n <= w.lines; n++ {
		switch stored[w.line(n)] {
		case 0:
			missing = append(missing, w.line(n))
		case 1:
		default:
			repeated = append(repeated, w.line(n))
		}
	}
	return missing, repeated
}

// some of a list, for a message.
func some(list []string) string {
	const most = 10
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}
