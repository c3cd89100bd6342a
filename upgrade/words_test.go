package upgrade

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/perennial-go/perennial/upgrade/release"
)

// hostile is what a request or a signed release may say.
var hostile = "newer, and requires\t\x1b[2J\n" + strings.Repeat("ä", 1<<20)

func bounded(t *testing.T, what, text string, limit int) {
	t.Helper()
	if text == "" || len(text) > limit || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("%s has %d bytes: %.60q", what, len(text), text)
	}
}

// A release may require what fills a megabyte, and the rule repeats it.
func TestJournalStaysReadableWhateverAReleaseRequires(t *testing.T) {
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.begin(Attempt{OrderID: "1", By: hostile, Asked: hostile, AllowedBy: hostile}); err != nil {
		t.Fatal(err)
	}
	read, err := readJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	bounded(t, "who asked", read.By, wordBytes)
	bounded(t, "what was asked", read.Asked, wordBytes)
	bounded(t, "the rule", read.AllowedBy, wordBytes)
}

func TestSlotStaysReadableWhateverAReleaseRequires(t *testing.T) {
	s := slots{t.TempDir()}
	ref := Ref{Version: "1.0.0", Binary: strings.Repeat("a", 64)}
	if _, err := s.create(Slot{Ref: ref, AllowedBy: hostile, By: hostile}, nil, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		slot, err := s.open(slotName(ref))
		if err != nil {
			t.Fatal(err)
		}
		bounded(t, "the rule", slot.AllowedBy, wordBytes)
		bounded(t, "who asked", slot.By, wordBytes)
		if err := slot.letIn(Attempt{AllowedBy: "again " + hostile, By: hostile}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReasonOfAWithdrawalInTheStatusIsFitForATerminal(t *testing.T) {
	running := Ref{Version: "1.0.0"}
	for _, reason := range []string{hostile, "\n"} {
		x := &release.Index{Releases: []release.IndexEntry{{Version: "1.0.0", Yanked: reason}}}
		why, _ := withdrawn(x, running)
		bounded(t, "the reason", strings.ReplaceAll(why, "\t", " "), reasonBytes)
	}
	if why, _ := withdrawn(&release.Index{Releases: []release.IndexEntry{{Version: "1.0.0"}}}, running); why != "" {
		t.Errorf("an offered release was withdrawn: %q", why)
	}
}
