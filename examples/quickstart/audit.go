package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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

// audit looks on disk for every record whose number is marked as acknowledged
// and for the log lines from 1 to lines.
func audit(state string, acked []bool, lines int64) (*account, error) {
	a := &account{Lines: lines}
	found, logged := make([]int32, len(acked)), make([]bool, lines+1)
	err := readSpool(state, func(line []byte) error {
		var r stored
		unreadable := json.Unmarshal(line, &r)
		switch {
		case unreadable != nil:
			a.Damaged++
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
