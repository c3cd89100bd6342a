package release

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

func TestTextBeyondItsBoundsIsNotPublished(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	long := strings.Repeat("x", maxText+1)
	many := map[string]string{}
	for i := range maxAnnotations + 1 {
		many["a"+strconv.Itoa(i)] = ""
	}
	for name, change := range map[string]func(*Release){
		"long revision":          func(rel *Release) { rel.Revision = long[:maxRevision+1] },
		"revision with controls": func(rel *Release) { rel.Revision = "\x1b[2J" },
		"many annotations":       func(rel *Release) { rel.Annotations = maps.Clone(many) },
		"long annotation":        func(rel *Release) { rel.Annotations = map[string]string{"a": long} },
		"long annotation's name": func(rel *Release) { rel.Annotations = map[string]string{long: ""} },
		"long requirement":       func(rel *Release) { rel.Requires.PluginAPI = strings.Repeat(">=1.0.0,", 200) + ">=1.0.0" },
	} {
		rel := f.release("1.0.0")
		change(&rel)
		if _, err := f.repository(1).Publish(t.Context(), rel); err == nil || !strings.Contains(err.Error(), "want at most") {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.publish("1.0.0")
	for _, reason := range []string{long, "two\nlines", "\x1b[2J"} {
		if err := f.repository(1).Yank(t.Context(), "agentd", "1.0.0", reason); err == nil || !strings.Contains(err.Error(), "one line") {
			t.Errorf("reason %.20q: %v", reason, err)
		}
	}
}

// Another tool may have signed it.
func TestReasonOfAWithdrawalIsFitForATerminal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	x := f.index()
	x.Sequence++
	x.Releases[0].Yanked = "broken\n\x1b[2J" + strings.Repeat("ä", 1<<16)
	f.signIndex(1, x)
	_, err := f.client().Resolve(t.Context(), "1.0.0")
	if err == nil || !strings.Contains(err.Error(), "broken") || len(err.Error()) > 2*maxText || strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Errorf("error %.200q", err)
	}
}
