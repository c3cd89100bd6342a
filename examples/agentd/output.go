package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
)

// format is the value of -o.
type format string

// formatFlag adds -o to a command.
func formatFlag(cmd *cobra.Command) *format {
	f := format("text")
	cmd.Flags().VarP(&f, "output", "o", "how to print: text or json")
	return &f
}

// String, Set and Type implement pflag.Value.
func (f *format) String() string { return string(*f) }

func (f *format) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json, found %q", s)
	}
	*f = format(s)
	return nil
}

func (f *format) Type() string { return "format" }

func (f *format) json() bool { return *f == "json" }

// printJSON writes value as indented JSON.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(printableJSON{w})
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// printableJSON is a writer of JSON to a terminal, perhaps: of the characters
// that a terminal obeys, or that change what others look like, encoding/json
// escapes only the first 32. They occur in strings only, where an escape means
// the same. Each Write must be of whole characters.
type printableJSON struct{ io.Writer }

// Write implements io.Writer.
func (w printableJSON) Write(p []byte) (int, error) {
	text := string(p)
	if strings.IndexFunc(text, obeyed) < 0 {
		return w.Writer.Write(p)
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !obeyed(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if _, err := io.WriteString(w.Writer, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// obeyed is of what does not show but does something.
func obeyed(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}

// printTable writes rows in aligned columns, the first row being the header.
// What is not fit for a terminal is replaced.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				_, _ = fmt.Fprint(t, "\t")
			}
			_, _ = fmt.Fprint(t, oneLine(cell))
		}
		_, _ = fmt.Fprintln(t)
	}
	return t.Flush()
}

// short cuts a digest to what people compare by eye.
func short(digest string) string {
	if len(digest) > 19 && digest[:7] == "sha256:" {
		return digest[7:19]
	}
	if len(digest) > 12 {
		return digest[:12]
	}
	return dash(digest)
}

// counted is "1 agent", or "2 agents".
func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// dash stands for nothing in a table.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// oneLine keeps what others wrote from breaking a table or a terminal: an
// agent of another release may not have made it printable.
func oneLine(s string) string { return printable(strings.TrimSpace(s)) }

// printable is oneLine that leaves space at the ends.
func printable(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if obeyed(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
