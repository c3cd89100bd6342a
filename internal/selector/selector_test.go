package selector_test

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/selector"
)

//nolint:gochecknoglobals // read only
var fields = selector.Fields{
	"id":      {},
	"group":   {},
	"version": {Version: true},
	"state":   {Values: []string{"running", "stopped"}},
}

type subject struct {
	labels map[string]string
	fields map[string][]string
}

func (s subject) Label(key string) (string, bool) { v, ok := s.labels[key]; return v, ok }
func (s subject) Field(name string) []string      { return s.fields[name] }

func TestSelectorMatchesWhatItSays(t *testing.T) {
	s := subject{
		labels: map[string]string{"env": "test", "zone": "a", "gpu": "", "app.io/tier": "db", "note": "a, b", "star": "a*"},
		fields: map[string][]string{"id": {"web-0001"}, "group": {"web", "eu"}, "version": {"2.0.0-rc.1"}, "state": {"running"}},
	}
	for text, want := range map[string]bool{
		"":                        true,
		" ":                       true,
		"env=test":                true,
		"env==test":               true,
		"env = test":              true,
		"env=prod":                false,
		"env!=prod":               true,
		"env!=test":               false,
		"missing=x":               false,
		"missing!=x":              true, // as in Kubernetes
		"zone in (a,b)":           true,
		"zone in (b, c)":          false,
		"zone notin (b,c)":        true,
		"zone notin ( a )":        false,
		"missing notin (a)":       true,
		"gpu":                     true,
		"!gpu":                    false,
		"!legacy":                 true,
		"! legacy":                true,
		"legacy":                  false,
		`gpu=""`:                  true,
		`env=""`:                  false,
		"app.io/tier=db":          true,
		`note="a, b"`:             true,
		`star="a*"`:               true,
		"env=test,zone=a,!legacy": true,
		"env=test,zone=b":         false,
		"in":                      false, // a label called in
		".id=web-0001":            true,
		".id=web-*":               true,
		".id=db-*":                false,
		".id in (db-*,web-*)":     true,
		".id=web":                 false,
		".group=eu":               true,
		".group!=eu":              false, // one of its groups is
		".group notin (us,db)":    true,
		"group=eu":                false, // a label
		".version=2.0.0-rc.1":     true,
		".version=2.0.0":          false,
		".version<2":              true,
		".version>=1.2":           true,
		`.version=">=1.2, <2"`:    true,
		".version=1.x":            false,
		".version=^1.2":           false,
		".version=~2.0.0-0":       true,
		`.version in (1.x,">2")`:  false,
		".version!=1.x":           true,
		".state=running":          true,
		".state notin (running)":  false,
		".state":                  true,
		"!.state":                 false,
	} {
		s1, err := selector.Parse(text, fields)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := s1.Matches(s); got != want {
			t.Errorf("%q matches: %t, want %t", text, got, want)
		}
		again, err := selector.Parse(s1.String(), fields)
		if err != nil || again.String() != s1.String() || again.Matches(s) != want {
			t.Errorf("%q is written as %q, which reads as %q, %v", text, s1, again, err)
		}
		if s1.Empty() != (strings.TrimSpace(text) == "") {
			t.Errorf("%q: empty is %t", text, s1.Empty())
		}
	}
}

func TestVersionThatIsNoneIsInNoRange(t *testing.T) {
	odd := subject{fields: map[string][]string{"version": {"latest"}}}
	for text, want := range map[string]bool{".version>=0": false, ".version=1.x": false, ".version!=1.x": true, ".version": true} {
		s, err := selector.Parse(text, fields)
		if err != nil || s.Matches(odd) != want {
			t.Errorf("%s: %t, %v, want %t", text, s.Matches(odd), err, want)
		}
	}
}

func TestSelectorThatMeansNothingIsRefusedAtItsColumn(t *testing.T) {
	for text, c := range map[string]struct {
		column int
		says   string
	}{
		"env=":                        {5, `the empty one is ""`}, // of a variable that is not set
		"env=,zone=a":                 {5, "found ','"},
		"env=test,":                   {10, "found the end"},
		",env":                        {1, "found ','"},
		"env=test zone=a":             {10, `want a comma or the end, found "zone"`},
		"env in a":                    {8, "want a list"},
		"env in ()":                   {9, "want a value"},
		"env in (a":                   {10, "want a comma or )"},
		"env in (a b)":                {11, "want a comma or )"},
		"env in (a,)":                 {11, "want a value"},
		"cores>4":                     {6, "only a version has an order"},
		"=test":                       {1, "want a label or a field"},
		"!":                           {2, "want a label or a field, found the end"},
		"!env=test":                   {5, "want a comma"},
		"-env=test":                   {1, "want a label's key"},
		"env=a*":                      {5, "into quotes"},
		".nope=1":                     {1, ".group .id .state .version"},
		".state=walking":              {8, "want running, stopped"},
		".state=run*":                 {8, "want running, stopped"},
		".version=latest":             {10, "want a version or a constraint"},
		".version>=":                  {11, "want a value"},
		".version in (1.x,>2)":        {18, "want a value"},
		`env="a`:                      {5, "ends with a quote"},
		`env="\q"`:                    {5, "escapes"},
		`env="\xff"`:                  {5, "UTF-8"},
		"env='a'":                     {5, `found '\''`},
		"env=ä":                       {5, "found 'ä'"},
		`ä="ö"`:                       {1, "found 'ä'"},
		`env="ö",zone=`:               {14, "found the end"}, // characters, not bytes
		"env=\x1b[31m":                {5, `found '\x1b'`},
		"env=a\xff":                   {6, "0xff"},
		strings.Repeat("a,", 65):      {129, "at most 64 requirements"},
		strings.Repeat("a", 5000):     {1, "at most 4096 bytes"},
		strings.Repeat("a", 200):      {1, "up to 127"},
		`a="` + raw(4000, "\a") + `"`: {1, "quotes written out"},
	} {
		_, err := selector.Parse(text, fields)
		var e *selector.Error
		if !errors.As(err, &e) {
			t.Errorf("%.40q is taken", text)
			continue
		}
		if e.Column != c.column || !strings.Contains(e.Reason, c.says) {
			t.Errorf("%.40q: column %d: %s; want column %d and %q", text, e.Column, e.Reason, c.column, c.says)
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) || len(err.Error()) > 1000 {
			t.Errorf("the message of %.40q is not fit for a terminal: %q", text, err)
		}
	}
}

func raw(n int, s string) string { return strings.Repeat(s, n) }

// Selectors lie in etcd, written by another release.
func TestSelectorsOfEarlierReleasesAreReadAndWrittenAsBefore(t *testing.T) {
	f, err := os.Open("testdata/selectors-1.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		text, canonical, _ := strings.Cut(lines.Text(), "\t")
		s, err := selector.Parse(text, fields)
		if err != nil || s.String() != canonical {
			t.Errorf("%s is read as %s, %v, want %s", text, s, err, canonical)
		}
	}
	if n < 10 {
		t.Errorf("the golden file has %d lines", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "env=test,tier!=web,zone in (a,b),zone notin (c),gpu,!legacy", ".version>=1.2,.id=web-*", `a="b\"c, d"`,
		".version in (1.x,\">2, <3 || 5\")", "a==b,.state=running", "a in (", "\xff", ".version>=\">1\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := selector.Parse(text, fields)
		if err != nil {
			var e *selector.Error
			if !errors.As(err, &e) || e.Column < 1 || e.Column > len(text)+1 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := selector.Parse(s.String(), fields)
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is written as %q, which reads as %q, %v", text, s, again, err)
		}
		s.Matches(subject{labels: map[string]string{"env": text}, fields: map[string][]string{"version": {text}, "id": {text}}})
	})
}
