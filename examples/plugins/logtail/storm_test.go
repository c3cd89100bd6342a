package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/sdk"
)

//nolint:gochecknoglobals // flags
var (
	storms    = flag.Int("storms", 4, "logs that TestEveryLineArrivesOnceInAStormOfRotations follows")
	stormSeed = flag.Uint64("storm.seed", 1, "seed of the first of them")
)

// storm is a log that is rotated all the time, and a task that follows it and is
// interrupted all the time.
type storm struct {
	t       *testing.T
	path    string
	pattern string
	renames bool // it is renamed; else it is copied and truncated

	mu      sync.Mutex
	written []string
	seen    map[string]int
	cursor  string
}

// TestEveryLineArrivesOnceInAStormOfRotations, whatever the moments are in which
// files move on and the task is interrupted, with a pattern that leads to the
// rotated names and with one that does not.
func TestEveryLineArrivesOnceInAStormOfRotations(t *testing.T) {
	for n := range *storms {
		for _, end := range []string{"", "*"} {
			for _, renames := range []bool{false, true} {
				seed := *stormSeed + uint64(n) //nolint:gosec // not negative
				t.Run(fmt.Sprintf("seed %d, app.log%s, renamed %v", seed, end, renames), func(t *testing.T) {
					t.Parallel()
					path := filepath.Join(t.TempDir(), "app.log")
					s := &storm{t: t, path: path, pattern: path + end, renames: renames, seen: map[string]int{}}
					s.run(seed)
				})
			}
		}
	}
}

func (s *storm) run(seed uint64) {
	// What was rotated before the task began is not the log's.
	s.line("")
	interrupt := s.follow()
	waittest.Until(s.t, "the first line arrives", func() bool { return len(s.missing()) == 0 })
	interrupt()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.write(rand.New(rand.NewPCG(seed, 0)))
	}()
	d := rand.New(rand.NewPCG(seed, 1))
	for running := true; running; {
		interrupt := s.follow()
		select {
		case <-ended:
			running = false
		case <-time.After(upTo(d, 40*time.Millisecond)):
		}
		interrupt()
		<-time.After(upTo(d, 30*time.Millisecond)) // the task stands still
	}
	interrupt = s.follow()
	waittest.Nil(s.t, "every line arrives", func() error {
		if missing := s.missing(); len(missing) > 0 {
			return fmt.Errorf("missing: %.40q", missing)
		}
		return nil
	})
	interrupt()
	var repeated []string
	for _, line := range s.written {
		if s.seen[line] > 1 {
			repeated = append(repeated, line)
		}
	}
	if len(repeated) > 0 {
		s.t.Errorf("%d lines arrived more than once: %.10q", len(repeated), repeated)
	}
}

func upTo(d *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(d.Int64N(int64(most)))
}

func (s *storm) missing() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.written {
		if s.seen[line] == 0 && !strings.HasSuffix(line, "late") {
			list = append(list, line)
		}
	}
	return list
}

// line writes a line. One that is late, and comes between the copying and the
// truncating, may be lost.
func (s *storm) line(rest string) {
	s.mu.Lock()
	line := fmt.Sprint(len(s.written), rest)
	s.written = append(s.written, line)
	s.mu.Unlock()
	write(s.t, s.path, line+"\n")
}

// write writes lines, and rotates.
func (s *storm) write(d *rand.Rand) {
	for range 60 {
		for range d.IntN(20) {
			s.line(strings.Repeat("x", d.IntN(50)))
			if d.IntN(4) == 0 {
				<-time.After(upTo(d, time.Millisecond))
			}
		}
		s.rotate(d)
	}
}

func (s *storm) rotate(d *rand.Rand) {
	for n := 70; n > 1; n-- {
		from := fmt.Sprintf("%s.%d", s.path, n-1)
		if _, err := os.Stat(from); err == nil {
			move(s.t, from, fmt.Sprintf("%s.%d", s.path, n))
		}
	}
	if s.renames {
		move(s.t, s.path, s.path+".1")
		write(s.t, s.path, "")
		return
	}
	copyFile(s.t, s.path, s.path+".1")
	fi, err := os.Stat(s.path)
	if err != nil {
		s.t.Error(err)
		return
	}
	switch late := d.IntN(4); {
	case late == 0:
		<-time.After(upTo(d, 10*time.Millisecond))
	case late == 1 && fi.Size() >= printBytes: // a shorter copy is not told from another
		s.line("late")
	}
	truncate(s.t, s.path)
}

// follow begins the task where it was; what it returns interrupts it.
func (s *storm) follow() (interrupt func()) {
	p := newPlugin()
	if err := p.Start(s.t.Context(), fmt.Appendf(nil, `{"paths":[%q],"interval":"10ms","linger":"1s"}`, s.pattern)); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- p.Execute(ctx, sdk.Task{Capability: "collect", Cursor: s.cursor}, func(r sdk.Result) error {
			recs, err := records(r.Payload)
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, rec := range recs {
				s.seen[rec.Text]++
			}
			s.cursor = r.Cursor
			return err
		})
	}()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			s.t.Errorf("Execute: %v", err)
		}
	}
}
