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
		body string
		line int
	}{
		"not JSON":               {"{}\nhello\n", 2},
		"an array":               {"[]", 1},
		"a string":               {"\"{}\"", 1},
		"null":                   {"{}\n{}\nnull", 3},
		"two objects on a line":  {"{}{}", 1},
		"object and a remainder": {"{} x", 1},
		"an unfinished object":   {"{\"a\":", 1},
		"an object over lines":   {"{\n\"a\":1}", 1},
		"a blank line between":   {"{}\n\n{}", 2},
		"only a newline":         {"\n", 1},
		"two newlines at end":    {"{}\n\n", 2},
		"a NUL byte":             {"{\"a\":\"\x00\"}", 1},
		"invalid UTF-8":          {"{\"a\":\"\xff\"}", 1},
		"a byte order mark":      {"\ufeff{}", 1},
		"nested too deep":        {strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), 1},
		"too long":               {"{}\n" + long, 2},
	} {
		b, err := Parse([]byte(c.body))
		var e *LineError
		if !errors.As(err, &e) || e.Line != c.line {
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
