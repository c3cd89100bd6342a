package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// endLimit is how long processes may take to end.
const endLimit = 30 * time.Second

// finish stops the load, ends every process, looks for the records, and
// notes all that in the result.
func (s *site) finish(ctx context.Context, r *result) {
	complain := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	lines, err := s.app.stop()
	if err != nil {
		complain("the application's log: %v", err)
	}
	if last := r.Steps[len(r.Steps)-1]; !last.OK {
		lines = 0 // nobody waits for a collection that may not be going on
	} else if err := s.collected(ctx, lines); err != nil {
		complain("%v", err)
	}
	s.load.stop()
	s.screen.pass("ending the agent and etcd")
	// Etcd last, so that the agent can leave the registry.
	if err := errors.Join(s.procs.end(endLimit, s.etcd), s.procs.end(endLimit, nil)); err != nil {
		complain("%v", err)
	}
	if err := s.procs.broken(); err != nil && !r.Interrupted {
		complain("%v", err)
	}
	if s.load != nil {
		total := s.load.total()
		r.Load = &total
		account, err := audit(s.state, s.load.acknowledged(), lines)
		if err != nil {
			complain("the spool: %v", err)
		}
		r.Records = account
	}
	r.Seconds = time.Since(s.screen.began).Seconds()
}

// leave removes the directory, or keeps it where somebody may want it.
func (s *site) leave(r *result) {
	if s.opts.keep || !r.OK && !r.Interrupted {
		for _, p := range s.procs.all {
			if !r.OK {
				s.screen.line(dim, "the last lines of %s:\n%s", p.log, lastLines(p.log, 12))
			}
		}
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.screen.line(red, "%s could not be removed: %v", s.dir, err)
		return
	}
	r.Dir = ""
}

// collected waits until logtail has brought the application's last line.
func (s *site) collected(ctx context.Context, last int64) error {
	want := fmt.Sprintf(`"text":"line %d"`, last)
	return s.await(ctx, fmt.Sprintf("log line %d is in the spool", last), func(context.Context) error {
		found := false
		err := readSpool(s.state, func(line []byte) error {
			found = found || strings.Contains(string(line), want)
			return nil
		})
		if err == nil && !found {
			err = errors.New("it is not there")
		}
		return err
	})
}
