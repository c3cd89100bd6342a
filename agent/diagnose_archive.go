package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/redact"
)

// Bounds of a diagnosis.
const (
	// DiagnoseBytes bounds all that it holds, in bytes before compression.
	DiagnoseBytes = 32 << 20
	// DiagnoseTimeout bounds how long it may take.
	DiagnoseTimeout = time.Minute

	diagnosisSchema = 1
	indexName       = "index.json"
	// indexBytes are kept free for the index; entriesMost bounds what it
	// lists, indexText each sentence of it.
	indexBytes  = 1 << 20
	entriesMost = 1000
	indexText   = 300
	// partTimeout bounds the making of one entry: what an author has registered
	// may hang.
	partTimeout = 10 * time.Second
)

// Diagnosis is index.json of a diagnosis, its last file: what there is, and
// what is missing and why.
type Diagnosis struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`
	// Agent and Version are of who made it; of DiagnoseState Agent is empty.
	Agent   string `json:"agent,omitempty"`
	Version string `json:"version"`
	// Source is "agent", or "disk" where no agent was asked, and only what lies
	// in its state directory is there.
	Source  string           `json:"source"`
	Entries []DiagnosisEntry `json:"entries"`
	Missing []DiagnosisGap   `json:"missing,omitempty"`
}

// DiagnosisEntry is a file of a diagnosis.
type DiagnosisEntry struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Bytes int64  `json:"bytes"`
	// Note says that something of it is left out.
	Note string `json:"note,omitempty"`
}

// DiagnosisGap is what could not be had.
type DiagnosisGap struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// finding is something that an entry is made of.
type finding struct {
	name, about string
	limit       int64 // bytes
	// binary is not redacted: a profile, whose strings are those of the program.
	binary bool
	// make writes the entry, and returns a note. It is given up on when ctx
	// ends, and writes to nobody then.
	make func(ctx context.Context, w io.Writer) (note string, err error)
}

// errPartFull is what an entry's writer returns beyond its limit.
var errPartFull = errors.New("the rest is left out")

// partWriter takes up to limit bytes.
type partWriter struct {
	data  bytes.Buffer // no embedded one, whose other methods know no limit
	limit int64
}

// Write implements io.Writer.
func (p *partWriter) Write(data []byte) (int, error) {
	room := p.limit - int64(p.data.Len())
	if int64(len(data)) <= room {
		return p.data.Write(data)
	}
	n, _ := p.data.Write(data[:max(room, 0)])
	return n, errPartFull
}

// archive is a diagnosis as it is written.
type archive struct {
	gz    *gzip.Writer
	tar   *tar.Writer
	clean *redact.Redactor
	room  int64
	index Diagnosis
}

func newArchive(w io.Writer, clean *redact.Redactor, index Diagnosis) *archive {
	gz := gzip.NewWriter(w)
	index.Schema, index.At = diagnosisSchema, time.Now().UTC()
	return &archive{gz: gz, tar: tar.NewWriter(gz), clean: clean, room: DiagnoseBytes - indexBytes, index: index}
}

// missing notes what could not be had.
func (a *archive) missing(name string, reason error) {
	if len(a.index.Missing) < entriesMost {
		a.index.Missing = append(a.index.Missing, DiagnosisGap{a.line(name), a.line(reason.Error())})
	}
}

// line is text for the index.
func (a *archive) line(text string) string {
	text = strings.ToValidUTF8(a.clean.Text(text), "?")
	if len(text) > indexText {
		text = strings.ToValidUTF8(text[:indexText], "") + "..."
	}
	return text
}

// add makes an entry. Only a writer that fails, or the end of ctx, is an
// error: what cannot be had is noted.
func (a *archive) add(ctx context.Context, p finding) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(a.index.Entries) >= entriesMost {
		a.missing(p.name, fmt.Errorf("there are %d entries already", entriesMost))
		return nil
	}
	type outcome struct {
		data []byte
		note string
		err  error
	}
	limited, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil { // such as an author's Settings
				done <- outcome{err: fmt.Errorf("it panicked: %v", v)}
			}
		}()
		w := &partWriter{limit: p.limit}
		note, err := p.make(limited, w)
		done <- outcome{w.data.Bytes(), note, err}
	}()
	var o outcome
	select {
	case o = <-done:
	case <-limited.Done():
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.missing(p.name, fmt.Errorf("it was not there within %v", partTimeout))
		return nil
	}
	full := errors.Is(o.err, errPartFull)
	switch {
	case full && p.binary:
		a.missing(p.name, fmt.Errorf("it is larger than %d bytes", p.limit))
		return nil
	case full:
		o.data, o.note = wholeLines(o.data), fmt.Sprintf("cut after %d bytes", p.limit)
	case o.err != nil:
		a.missing(p.name, o.err)
		return nil
	}
	return a.write(p, o.data, o.note)
}

// wholeLines leaves a last line out that was cut: a secret that was cut in two
// is not known any more.
func wholeLines(data []byte) []byte { return data[:bytes.LastIndexByte(data, '\n')+1] }

func (a *archive) write(p finding, data []byte, note string) error {
	if !p.binary {
		data = []byte(a.clean.Text(string(data)))
	}
	if int64(len(data)) > a.room {
		a.missing(p.name, fmt.Errorf("its %d bytes would make the whole larger than %d", len(data), DiagnoseBytes))
		return nil
	}
	a.room -= int64(len(data))
	a.index.Entries = append(a.index.Entries, DiagnosisEntry{p.name, p.about, int64(len(data)), a.line(note)})
	return a.file(p.name, data)
}

func (a *archive) file(name string, data []byte) error {
	err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "diagnosis/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: a.index.At})
	if err == nil {
		_, err = a.tar.Write(data)
	}
	return err
}

// close writes the index.
func (a *archive) close() error {
	data, err := json.MarshalIndent(a.index, "", "  ")
	if err == nil {
		err = a.file(indexName, append(data, '\n'))
	}
	return errors.Join(err, a.tar.Close(), a.gz.Close())
}

// asJSON makes an entry of a value.
func asJSON(name, about string, value func() any) finding {
	return finding{name: name, about: about, limit: 4 << 20, make: func(_ context.Context, w io.Writer) (string, error) {
		data, err := json.MarshalIndent(value(), "", "  ")
		if err != nil {
			return "", err
		}
		_, err = w.Write(append(data, '\n'))
		return "", err
	}}
}

// ReadDiagnosis reads a diagnosis to its end, which tells whether it is whole,
// and returns its index. It takes no more than a diagnosis may have.
func ReadDiagnosis(r io.Reader) (d Diagnosis, err error) {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return d, fmt.Errorf("want a diagnosis, which is a tar file in gzip: %w", err)
	}
	// A file has a header and padding besides.
	all := &io.LimitedReader{R: gz, N: DiagnoseBytes + 2*entriesMost*1024}
	files := tar.NewReader(all)
	found := false
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, fmt.Errorf("the diagnosis is not whole: %w", err)
		}
		if h.Name != "diagnosis/"+indexName {
			continue
		}
		if err := json.NewDecoder(io.LimitReader(files, indexBytes)).Decode(&d); err != nil {
			return d, fmt.Errorf("the index of the diagnosis: %w", err)
		}
		found = true
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // gzip's checksum is behind
		return d, fmt.Errorf("the diagnosis is not whole: %w", err)
	}
	switch {
	case all.N == 0:
		return d, fmt.Errorf("want a diagnosis of at most %d bytes, found more", DiagnoseBytes)
	case !found:
		return d, errors.New("the diagnosis is not whole: its index, which is the last file, is missing")
	case d.Schema != diagnosisSchema:
		return d, fmt.Errorf("the diagnosis has schema %d, want %d", d.Schema, diagnosisSchema)
	}
	return d, nil
}
