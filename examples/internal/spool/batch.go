package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// MaxRecordBytes bounds one record, without its newline.
const MaxRecordBytes = 1 << 20

// Batch is a set of records that have been checked, ready for Append. The
// zero Batch is empty.
type Batch struct {
	data []byte // every record ends in a newline and contains no other
	n    int
}

// Len returns the number of records.
func (b Batch) Len() int { return b.n }

// Join returns a batch with the records of b and then those of c. It may
// reuse the memory of b, which must not be used afterwards.
func (b Batch) Join(c Batch) Batch {
	return Batch{data: append(b.data, c.data...), n: b.n + c.n}
}

// LineError names the first line that is no record.
type LineError struct {
	// Line counts from 1.
	Line int
	// Reason continues the sentence "line 3 …".
	Reason string
}

// Error implements error.
func (e *LineError) Error() string {
	return fmt.Sprintf("line %d %s; every line must be one JSON object of at most %d bytes", e.Line, e.Reason, MaxRecordBytes)
}

// Parse checks newline-delimited JSON: every line holds one JSON object in
// UTF-8, the last newline may be missing, blank lines are refused. White
// space around an object is dropped; the object itself is kept byte for
// byte. The error is a *LineError; the batch is then empty. The result does
// not share memory with body.
func Parse(body []byte) (Batch, error) {
	b := Batch{data: make([]byte, 0, len(body)+1)}
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		b.n++
		record := bytes.Trim(line, " \t\r")
		if len(record) > MaxRecordBytes {
			return Batch{}, &LineError{Line: b.n, Reason: fmt.Sprintf("has %d bytes", len(record))}
		}
		if reason := fault(record); reason != "" {
			return Batch{}, &LineError{Line: b.n, Reason: reason}
		}
		b.data = append(append(b.data, record...), '\n')
	}
	return b, nil
}

// fault says what is wrong with a record, or nothing.
func fault(record []byte) string {
	switch {
	case len(record) == 0:
		return "is empty"
	case record[0] != '{':
		return "does not begin with {"
	case !utf8.Valid(record):
		return "is not UTF-8"
	case !json.Valid(record):
		return "is not one valid JSON object"
	}
	return ""
}
