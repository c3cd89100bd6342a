package main

import (
	"bytes"
	"regexp"
	"unicode/utf8"
)

// splitter cuts a text into records: lines, or events of several lines.
type splitter struct {
	maxBytes int
	first    *regexp.Regexp // what an event begins with; nil: each line is one
	maxLines int            // of an event
}

// piece is the text of one record.
type piece struct {
	text []byte
	used int  // bytes of the input, with the newline
	cut  bool // ended by a bound: what follows may belong to it
}

// more says what may still come behind the input.
type more int

const (
	moreSoon more = iota // it is being written
	moreLate             // nothing has come for so long that an event counts as complete
	moreNone             // nobody will finish its last line
)

// next takes the first piece off b; used is 0 if it is not complete. A b of
// more than maxBytes always yields one.
func (s splitter) next(b []byte, m more) piece {
	if s.first == nil {
		return s.line(b, m)
	}
	return s.event(b, m)
}

func (s splitter) line(b []byte, m more) piece {
	end := bytes.IndexByte(b[:min(len(b), s.maxBytes+1)], '\n')
	switch {
	case end >= 0:
		return piece{text: trim(b[:end+1]), used: end + 1}
	case len(b) > s.maxBytes:
		n := boundary(b, s.maxBytes)
		return piece{text: b[:n], used: n, cut: true}
	case m == moreNone:
		return piece{text: b, used: len(b)}
	}
	return piece{}
}

func (s splitter) event(b []byte, m more) piece {
	end, lines := 0, 0 // of the event, whole lines
	for {
		l := s.line(b[end:], m)
		switch {
		case l.used == 0: // at the end of b, or within a line that is not complete
			if lines > 0 && (m != moreSoon || len(b) > s.maxBytes) {
				return piece{text: trim(b[:end]), used: end, cut: m == moreSoon}
			}
			return piece{}
		case lines > 0 && s.first.Match(l.text):
			return piece{text: trim(b[:end]), used: end}
		case lines > 0 && end+len(l.text) > s.maxBytes:
			return piece{text: trim(b[:end]), used: end, cut: true}
		case l.cut:
			return l
		}
		end, lines = end+l.used, lines+1
		if lines == s.maxLines {
			return piece{text: trim(b[:end]), used: end, cut: true}
		}
	}
}

// trim takes the end of the line off.
func trim(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// boundary is where b may be cut before n without cutting a character.
func boundary(b []byte, n int) int {
	for back := range min(n, utf8.UTFMax) {
		if utf8.RuneStart(b[n-back]) {
			return n - back
		}
	}
	return n
}
