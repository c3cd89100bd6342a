package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/examples/internal/spool"
)

// split takes all pieces that b has; what is left is not complete.
func split(s splitter, b []byte, m more) (pieces []piece, left []byte) {
	for len(b) > 0 {
		p := s.next(b, m)
		if p.used == 0 {
			break
		}
		pieces, b = append(pieces, p), b[p.used:]
	}
	return pieces, b
}

func show(pieces []piece) (texts []string) {
	for _, p := range pieces {
		text := string(p.text)
		if p.cut {
			text += "…"
		}
		texts = append(texts, text)
	}
	return texts
}

func TestEventsOfSeveralLines(t *testing.T) {
	s := splitter{maxBytes: 20, maxLines: 3, first: regexp.MustCompile(`^\d`)}
	for name, c := range map[string]struct {
		in   string
		m    more
		want []string
		left string
	}{
		"the next one ends it":       {"1 a\n at b\n2 c\n", moreSoon, []string{"1 a\n at b"}, "2 c\n"},
		"nothing more has come":      {"1 a\n at b\n", moreLate, []string{"1 a\n at b"}, ""},
		"its last line is not whole": {"1 a\n at", moreLate, []string{"1 a"}, " at"},
		"nobody finishes its line":   {"1 a\n at", moreNone, []string{"1 a\n at"}, ""},
		"begun by another line":      {" at b\n1 a\n2 c\n", moreSoon, []string{" at b", "1 a"}, "2 c\n"},
		"too many lines":             {"1 a\n b\n c\n d\n2\n", moreSoon, []string{"1 a\n b\n c…", " d"}, "2\n"},
		"too many bytes":             {"1 aaaaaaaa\n bbbbbbbbbbbb\n2\n", moreSoon, []string{"1 aaaaaaaa…", " bbbbbbbbbbbb"}, "2\n"},
		"a line that is too long":    {"1 " + strings.Repeat("a", 30) + "\n2\n", moreSoon, []string{"1 " + strings.Repeat("a", 18) + "…", strings.Repeat("a", 12)}, "2\n"},
		"a long one behind others":   {"1 a\n" + strings.Repeat("b", 18), moreSoon, []string{"1 a…"}, strings.Repeat("b", 18)},
		"carriage returns":           {"1 a\r\n b\r\n2\r\n", moreSoon, []string{"1 a\r\n b"}, "2\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			pieces, left := split(s, []byte(c.in), c.m)
			if got := show(pieces); !slices.Equal(got, c.want) || string(left) != c.left {
				t.Errorf("want %q and %q left, found %q and %q", c.want, c.left, got, left)
			}
		})
	}
}

func TestLongLineIsNotCutWithinACharacter(t *testing.T) {
	s := splitter{maxBytes: 10}
	pieces, left := split(s, []byte("a"+strings.Repeat("é", 7)+"\n"+strings.Repeat("\xbf", 12)+"\n"), moreSoon)
	want := []string{"aéééé…", "ééé", strings.Repeat("\xbf", 10) + "…", "\xbf\xbf"}
	if got := show(pieces); !slices.Equal(got, want) || len(left) != 0 {
		t.Errorf("want %q, found %q and %q left", want, got, left)
	}
	pieces, _ = split(splitter{maxBytes: 3}, []byte("aé€\n"), moreSoon)
	if got := show(pieces); !slices.Equal(got, []string{"aé…", "€"}) {
		t.Errorf("found %q", got)
	}
	if pieces, _ = split(splitter{maxBytes: 1}, []byte("€\n"), moreSoon); len(pieces) != 3 {
		t.Errorf("a character that is longer than a line may be yields %q", show(pieces))
	}
}

// FuzzSplit: whatever the text, no byte is lost but the ends of lines, every
// bound holds, and it makes no difference in which portions lines were written.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("1 a\n b\n2 c\r\n"+strings.Repeat("x", 99)), uint8(10), uint8(3), true)
	f.Add([]byte("é\n\n\xff"), uint8(1), uint8(0), false)
	f.Fuzz(func(t *testing.T, text []byte, size, portion uint8, events bool) {
		s := splitter{maxBytes: int(size) + 1}
		if events {
			s.first, s.maxLines = regexp.MustCompile(`^\d`), 3
		}
		whole, left := split(s, text, moreSoon)
		if len(left) > s.maxBytes {
			t.Fatalf("%d bytes yield nothing, with a bound of %d", len(left), s.maxBytes)
		}
		rest := text
		for _, p := range whole {
			between := rest[len(p.text):p.used]
			if !bytes.HasPrefix(rest, p.text) || len(p.text) > s.maxBytes || strings.Trim(string(between), "\r\n") != "" || len(between) > 2 {
				t.Fatalf("%q became %q and %q", rest[:p.used], p.text, between)
			}
			if utf8.Valid(text) && s.maxBytes >= utf8.UTFMax && !utf8.Valid(p.text) {
				t.Fatalf("%q was cut within a character", p.text)
			}
			rest = rest[p.used:]
		}
		if events {
			return // a bound that is reached before the next line came says so
		}
		var parts []piece
		var have []byte
		for len(text) > 0 {
			n := min(len(text), int(portion)+1)
			have, text = append(have, text[:n]...), text[n:]
			var more []piece
			more, have = split(s, have, moreSoon)
			parts, have = append(parts, more...), bytes.Clone(have)
			for i := range parts {
				parts[i].text = bytes.Clone(parts[i].text)
			}
		}
		if !slices.Equal(show(parts), show(whole)) {
			t.Fatalf("in portions %q, at once %q", show(parts), show(whole))
		}
	})
}

// A record that is too long for the agent would be dropped there.
func TestLongestRecordIsTakenByTheAgent(t *testing.T) {
	for name, c := range map[string]string{"control characters": "\x01", "not UTF-8": "\xff", "quotes": `"`, "not UTF-8 and control": "\xff\x01"} {
		b := newBatch()
		text := []byte(strings.Repeat(c, mostLineBytes/len(c)))
		if err := b.add("/"+strings.Repeat("\x01", 4095), 1<<62, piece{text: text, cut: true}); err != nil {
			t.Fatal(err)
		}
		data := b.take()
		if _, err := spool.Parse(data); err != nil {
			t.Errorf("%s: a record of %d bytes: %v", name, len(data), err)
		}
	}
}

func TestTextThatIsNotUTF8ComesWithItsBytes(t *testing.T) {
	b := newBatch()
	if err := b.add("/x", 0, piece{text: []byte("caf\xe9 & <co>")}); err != nil {
		t.Fatal(err)
	}
	recs, err := records(b.take())
	if err != nil || recs[0].Text != "caf\ufffd & <co>" || string(recs[0].Raw) != "caf\xe9 & <co>" {
		t.Errorf("found %+v, %v", recs, err)
	}
}

func TestMultilineSettings(t *testing.T) {
	for name, c := range map[string]struct{ settings, says string }{
		"no pattern":    {`{"paths":["/x"],"multiline":{}}`, "first: want a pattern"},
		"bad pattern":   {`{"paths":["/x"],"multiline":{"first":"("}}`, "first: error parsing"},
		"long pattern":  {fmt.Sprintf(`{"paths":["/x"],"multiline":{"first":%q}}`, strings.Repeat("x", 2000)), "found 2000 bytes"},
		"lines":         {`{"paths":["/x"],"multiline":{"first":"x","max_lines":-1}}`, "max_lines: want 1 to"},
		"wait":          {`{"paths":["/x"],"multiline":{"first":"x","wait":"soon"}}`, `found "soon"`},
		"unknown field": {`{"paths":["/x"],"multiline":{"firs":"x"}}`, `unknown field "firs"`},
	} {
		if _, err := parseSettings([]byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: want %q, found %v", name, c.says, err)
		}
	}
	s, err := parseSettings([]byte(`{"paths":["/x"],"multiline":{"first":"x"}}`))
	if err != nil || s.splitter.maxLines != defaultLines || s.wait != 2*time.Second {
		t.Errorf("found %+v, %v", s, err)
	}
	if s, err = parseSettings([]byte(`{"paths":["/x"],"multiline":{"first":"x"}}`), []byte(`{"multiline":null}`)); err != nil || s.splitter.first != nil {
		t.Errorf("found %+v, %v", s, err)
	}
}
