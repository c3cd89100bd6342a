package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWrongUsageIsRefusedInASentence(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"argument":               {[]string{"now"}, `"now"`},
		"unknown flag":           {[]string{"-fast"}, "-fast"},
		"clients that are no 4s": {[]string{"-clients", "6"}, "found 6"},
		"no clients":             {[]string{"-clients", "0"}, "found 0"},
		"too many clients":       {[]string{"-clients", "1000"}, "found 1000"},
		"unknown format":         {[]string{"-o", "yaml"}, `"yaml"`},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if _, err := parse(c.args, io.Discard, &stderr); err == nil || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("want an error with %s, found %v and\n%s", c.says, err, stderr.String())
			}
		})
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	var stdout bytes.Buffer
	if _, err := parse([]string{"-h"}, &stdout, io.Discard); err == nil || !strings.Contains(stdout.String(), "go run ./examples/quickstart") {
		t.Errorf("-h: %v\n%s", err, stdout.String())
	}
}

// TestResultIsBadWhenAnythingIs fails if the quickstart can claim what it
// has not seen.
func TestResultIsBadWhenAnythingIs(t *testing.T) {
	good := func() *result {
		return &result{
			Steps: []stepResult{{Name: "one", OK: true}}, Load: &tally{Requests: 10},
			Records: &account{Acknowledged: 5, Found: 5, Lines: 3},
		}
	}
	if r := good(); true {
		if r.judge(1); !r.OK {
			t.Errorf("a good run has problems: %v", r.Problems)
		}
	}
	for name, spoil := range map[string]func(*result){
		"step failed":            func(r *result) { r.Steps[0].OK = false },
		"request failed":         func(r *result) { r.Load.Failed = 1 },
		"record missing":         func(r *result) { r.Records.Missing = 1 },
		"log line missing":       func(r *result) { r.Records.LinesMissing = 1 },
		"spool damaged":          func(r *result) { r.Records.Damaged = 1 },
		"nothing acknowledged":   func(r *result) { r.Records.Acknowledged = 0 },
		"problem met on the way": func(r *result) { r.Problems = []string{"process 7 was killed"} },
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			spoil(r)
			if r.judge(1); r.OK || len(r.Problems) != 1 {
				t.Errorf("found OK %t with problems %q", r.OK, r.Problems)
			}
		})
	}
}

func TestWhatIsNoTerminalGetsPlainLines(t *testing.T) {
	path := t.TempDir() + "/out"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newScreen(f)
	s.line(red, "first\nsecond")
	s.pass("nobody is to see this")
	s.succeeded("third")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); strings.ContainsAny(got, "\x1b\r") || strings.Contains(got, "nobody") || strings.Count(got, "\n") != 3 {
		t.Errorf("found %q", got)
	}
}
