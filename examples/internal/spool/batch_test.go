package spool

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParseNamesTheFirstLineThatIsNoRecord(t *testing.T) {
	long := `{"x":"` + strings.Repeat("y", MaxRecordBytes) + `"}`
	for name, c := range map[string]struct {
		body    string
		line    int
		tooLong bool
	}{
		"not JSON":               {"{}\nhello\n", 2, false},
		"an array":               {"[]", 1, false},
		"a string":               {"\"{}\"", 1, false},
		"null":                   {"{}\n{}\nnull", 3, false},
		"two objects on a line":  {"{}{}", 1, false},
		"object and a remainder": {"{} x", 1, false},
		"an unfinished object":   {"{\"a\":", 1, false},
		"an object over lines":   {"{\n\"a\":1}", 1, false},
		"a blank line between":   {"{}\n\n{}", 2, false},
		"only a newline":         {"\n", 1, false},
		"two newlines at end":    {"{}\n\n", 2, false},
		"a NUL byte":             {"{\"a\":\"\x00\"}", 1, false},
		"invalid UTF-8":          {"{\"a\":\"\xff\"}", 1, false},
		"a byte order mark":      {"\ufeff{}", 1, false},
		"nested too deep":        {strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), 1, false},
		"too long":               {"{}\n" + long, 2, true},
	} {
		b, err := Parse([]byte(c.body))
		var e *LineError
		if !errors.As(err, &e) || e.Line != c.line || e.TooLong != c.tooLong {
			t.Errorf("%s: Parse = %v, want line %d", name, err, c.line)
		}
		if b.Len() != 0 || len(b.data) != 0 {
			t.Errorf("%s: the batch holds %d records beside the error", name, b.Len())
		}
	}
}

func TestParseAcceptsTheLongestRecord(t *testing.T) {
	record := `{"x":"` + strings.Repeat("y", MaxRecordBytes-8) + `"}`
	b, err := Parse([]byte("{}\n" + record))
	if err != nil || b.Len() != 2 {
		t.Fatalf("Parse = %d, %v", b.Len(), err)
	}
	dir := t.TempDir()
	if err := open(t, Config{Dir: dir}).Append(b); err != nil {
		t.Fatal(err)
	}
	if _, sum := records(t, dir); sum.Records != 2 {
		t.Errorf("read back %+v, want 2 records", sum)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("{}\n{\"a\":1}"))
	f.Add([]byte("{}\r\n \t{} \n"))
	f.Add([]byte("[]\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		b, err := Parse(body)
		if !bytes.Equal(before, body) {
			t.Fatal("Parse changed its input")
		}
		if err != nil {
			return
		}
		lines := bytes.Split(bytes.TrimSuffix(b.data, []byte{'\n'}), []byte{'\n'})
		if b.n > 0 && len(lines) != b.n {
			t.Fatalf("%d lines for %d records", len(lines), b.n)
		}
		for _, line := range lines {
			if b.n > 0 && fault(line) != "" {
				t.Errorf("stored %q, which %s", line, fault(line))
			}
		}
	})
}
