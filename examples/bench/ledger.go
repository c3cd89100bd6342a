package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

// ledger knows the records that one server has acknowledged.
type ledger struct {
	next  atomic.Int64 // number of the newest record
	acked []int64
}

// acknowledge adds to the records that must not be lost. It is called by one
// goroutine at a time.
func (l *ledger) acknowledge(records []int64) { l.acked = append(l.acked, records...) }

// lost counts the acknowledged records that are in no file of dir. It reads
// the files as anybody could, not with the code that wrote them.
func (l *ledger) lost(dir string) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		return 0, err
	}
	found := make([]bool, l.next.Load()+1)
	for _, path := range files {
		if err := readRecords(path, found); err != nil {
			return 0, fmt.Errorf("audit of %s: %w", path, err)
		}
	}
	lost := 0
	for _, record := range l.acked {
		if !found[record] {
			lost++
		}
	}
	return lost, nil
}

func readRecords(path string, found []bool) error {
	f, err := os.Open(path)
	if err != nil {
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
		var record struct{ Record int64 }
		if json.Unmarshal(line, &record) == nil && record.Record > 0 && record.Record < int64(len(found)) {
			found[record.Record] = true
		}
	}
}
