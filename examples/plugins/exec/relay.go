package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	// pieceBytes and pieceDelay gather what a command writes in small bits: a
	// result costs its readers more than its bytes.
	pieceBytes = 16 << 10
	pieceDelay = 200 * time.Millisecond
	// lastWordsBytes of standard error go into the error's text.
	lastWordsBytes = 200
)

// streamNames are those of the two streams, by number.
var streamNames = [...]string{"stdout", "stderr"} //nolint:gochecknoglobals // a constant list

// piece is a result with output.
type piece struct {
	Source  string `json:"source"`
	Command string `json:"command"`
	Stream  string `json:"stream"`
	Text    string `json:"text,omitempty"`
	Base64  string `json:"base64,omitempty"`
}

// relay makes results of a command's output. Its fields may be read once
// relay has returned.
type relay struct {
	command string
	limit   int64
	send    func(sdk.Result) error

	bytes   [2]int64 // of each stream
	dropped int64
	pending [2][]byte
	tail    []byte // the end of standard error
}

// written is what was read at once of one stream; nil data is its end.
type written struct {
	stream int
	data   []byte
}

// relay sends what comes until both streams have ended. The first error of
// send calls fail, and the rest is read and thrown away.
func (r *relay) relay(k *keeper, fail func()) error {
	arrived := make(chan written)
	for n, file := range [...]*os.File{k.stdout, k.stderr} {
		go read(n, k, file, arrived)
	}
	late := time.NewTimer(pieceDelay)
	defer late.Stop()
	armed := true
	var failed error
	note := func(err error) {
		if err != nil && failed == nil {
			failed = err
			fail()
		}
	}
	for open := 2; open > 0; {
		select {
		case w := <-arrived:
			if w.data == nil {
				open--
				note(r.flush(w.stream, true))
				continue
			}
			if !armed {
				late.Reset(pieceDelay)
				armed = true
			}
			// What was written to the other stream before stays before.
			note(r.flush(1-w.stream, false))
			r.take(w)
			if len(r.pending[w.stream]) >= pieceBytes {
				note(r.flush(w.stream, false))
			}
		case <-late.C:
			armed = false
			note(r.flush(0, false))
			note(r.flush(1, false))
		}
		if failed != nil {
			r.pending = [2][]byte{}
		}
	}
	return failed
}

// read hands over what one stream yields.
func read(n int, k *keeper, file *os.File, arrived chan<- written) {
	for {
		buf := make([]byte, pieceBytes)
		got, err := k.read(file, buf)
		if got > 0 {
			arrived <- written{n, buf[:got]}
		}
		if err != nil {
			arrived <- written{stream: n}
			return
		}
	}
}

// take keeps what is within the limit.
func (r *relay) take(w written) {
	if w.stream == 1 {
		r.tail = append(r.tail, w.data...)
		r.tail = r.tail[max(0, len(r.tail)-2*lastWordsBytes):]
	}
	room := r.limit - (r.bytes[0] + r.bytes[1] - r.dropped)
	r.bytes[w.stream] += int64(len(w.data))
	kept := w.data[:min(int64(len(w.data)), room)]
	r.dropped += int64(len(w.data) - len(kept))
	r.pending[w.stream] = append(r.pending[w.stream], kept...)
}

// flush sends what is pending of a stream, but for a character that is not
// whole yet.
func (r *relay) flush(stream int, last bool) error {
	data := r.pending[stream]
	if !last {
		data = data[:len(data)-incomplete(data)]
	}
	if len(data) == 0 {
		return nil
	}
	p := piece{Source: capability, Command: r.command, Stream: streamNames[stream]}
	if utf8.Valid(data) {
		p.Text = string(data)
	} else {
		p.Base64 = base64.StdEncoding.EncodeToString(data)
	}
	r.pending[stream] = slices.Clone(r.pending[stream][len(data):])
	payload, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return r.send(sdk.Result{Payload: payload})
}

// incomplete is how many bytes at the end begin a character that more bytes
// could complete.
func incomplete(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if rest := data[len(data)-n:]; utf8.RuneStart(rest[0]) {
			if !utf8.FullRune(rest) {
				return n
			}
			return 0
		}
	}
	return 0
}

// lastWords is the last line of standard error.
func (r *relay) lastWords() string {
	line := bytes.TrimSpace(r.tail)
	line = line[bytes.LastIndexByte(line, '\n')+1:]
	return strings.ToValidUTF8(string(line[max(0, len(line)-lastWordsBytes):]), "\uFFFD")
}

// ordered yields a map by its keys.
func ordered[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
