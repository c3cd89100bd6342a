package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// record is one line, or one event of several, as it is delivered.
type record struct {
	Time   time.Time `json:"time"` // when it was read
	Source string    `json:"source"`
	// Path is where the file was found: its name may be another by now.
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	// Text has U+FFFD where the file is not UTF-8.
	Text string `json:"text"`
	// Raw are the bytes, in base64, of a text that is not UTF-8.
	Raw []byte `json:"raw,omitempty"`
	// Cut marks a part of what was too long: the next record goes on.
	Cut bool `json:"cut,omitempty"`
}

// batchBytes is the size from which on a batch is sent. One is longer by a
// record at most, whose bounds keep it below 1 MiB.
const batchBytes = 256 << 10

// batch is the records of one result.
type batch struct {
	data bytes.Buffer
	enc  *json.Encoder
	time time.Time
}

func newBatch() *batch {
	b := &batch{}
	b.enc = json.NewEncoder(&b.data)
	b.enc.SetEscapeHTML(false)
	return b
}

func (b *batch) add(path string, offset int64, p piece) error {
	if b.data.Len() == 0 {
		b.time = time.Now().UTC()
	}
	r := record{Time: b.time, Source: "logtail", Path: path, Offset: offset, Text: string(p.text), Cut: p.cut}
	if !utf8.Valid(p.text) {
		r.Text, r.Raw = strings.ToValidUTF8(r.Text, "\ufffd"), p.text
	}
	return b.enc.Encode(r)
}

func (b *batch) full() bool { return b.data.Len() >= batchBytes }

// take returns the records, which are valid until the next add, and empties
// the batch.
func (b *batch) take() []byte {
	data := b.data.Bytes()
	b.data.Reset()
	return data
}
