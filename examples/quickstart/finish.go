package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
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
	healthy := len(r.Steps) > 0 && r.Steps[len(r.Steps)-1].OK
	if healthy {
		if err := s.collected(ctx, lines); err != nil {
			complain("%v", err)
		}
	}
	s.load.stop()
	s.screen.pass("ending the agent and etcd")
	// Etcd last, so that the agent can leave the registry.
	if err := errors.Join(s.procs.end(endLimit, s.etcd), s.procs.end(endLimit, nil), s.procs.broken()); err != nil && !r.Interrupted {
		complain("%v", err)
	}
	if s.load != nil {
		total := s.load.total()
		r.Load = &total
		account, err := s.audit(lines)
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
		if s.agent != nil && !r.OK {
			s.screen.line(dim, "the last lines of %s:\n%s", s.agent.log, lastLines(s.agent.log, 12))
		}
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.screen.line(red, "%s could not be removed: %v", s.dir, err)
		return
	}
	r.Dir = ""
}

// account is what was acknowledged or written, and what of it is on disk.
type account struct {
	Acknowledged int64 `json:"acknowledged"`
	Found        int64 `json:"found"`
	Missing      int64 `json:"missing"`
	FirstMissing int64 `json:"first_missing,omitempty"`
	// Repeated counts the numbers that are there more than once.
	Repeated int64 `json:"repeated"`
	// Unacknowledged counts records that are there though their request had
	// no answer.
	Unacknowledged int64 `json:"unacknowledged"`
	// Damaged counts lines that are no records.
	Damaged int64 `json:"damaged"`
	// Lines is what the application wrote to its log.
	Lines            int64 `json:"lines"`
	LinesMissing     int64 `json:"lines_missing"`
	FirstLineMissing int64 `json:"first_line_missing,omitempty"`
	// Samples is what hostmetrics has sampled.
	Samples int64 `json:"samples"`
}

// stored is what interests of a record.
type stored struct {
	Source string `json:"source"`
	Record int64  `json:"record"`
	Text   string `json:"text"`
}

// audit looks for every acknowledged record and every log line on disk.
func (s *site) audit(lines int64) (*account, error) {
	acked := s.load.acknowledged()
	a := &account{Lines: lines}
	found, logged := make([]int32, len(acked)), make([]bool, lines+1)
	err := readSpool(s.state, func(line []byte) error {
		var r stored
		if json.Unmarshal(line, &r) != nil {
			a.Damaged++
			return nil
		}
		switch {
		case r.Source == "quickstart" && r.Record > 0 && r.Record < int64(len(found)):
			found[r.Record]++
		case r.Source == "hostmetrics":
			a.Samples++
		case r.Source == "logtail":
			if n := lineNumber(r.Text); n > 0 && n <= lines {
				logged[n] = true
			}
		}
		return nil
	})
	for n := len(acked) - 1; n > 0; n-- {
		switch {
		case acked[n] && found[n] == 0:
			a.Missing++
			a.FirstMissing = int64(n)
		case !acked[n] && found[n] > 0:
			a.Unacknowledged++
		}
		if acked[n] {
			a.Acknowledged++
		}
		if found[n] > 0 {
			a.Found++
		}
		if found[n] > 1 {
			a.Repeated++
		}
	}
	for n := lines; n > 0; n-- {
		if !logged[n] {
			a.LinesMissing++
			a.FirstLineMissing = n
		}
	}
	return a, err
}

// lineNumber reads "line 17".
func lineNumber(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "line "), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// collected waits until logtail has brought the application's last line.
func (s *site) collected(ctx context.Context, last int64) error {
	want := fmt.Sprintf(`"text":"line %d"`, last)
	return s.await(ctx, fmt.Sprintf("log line %d is in the spool", last), 30*time.Second, func(context.Context) error {
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

// readSpool hands every complete line in the spool of a state directory to
// each. It reads the files as anybody could, not with the code that wrote
// them.
func readSpool(state string, each func(line []byte) error) error {
	files, err := filepath.Glob(filepath.Join(state, "spool", "*.ndjson"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := readLines(path, each); err != nil {
			return err
		}
	}
	return nil
}

func readLines(path string, each func(line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil // an empty file that was removed meanwhile
		}
		return err
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what follows the last newline was never acknowledged
		}
		if err != nil {
			return err
		}
		if err := each(line); err != nil {
			return err
		}
	}
}
