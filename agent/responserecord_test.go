package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/health"
)

// goldenResponses has every field set. Later versions must still read the file,
// or an upgrade would forget what has been done.
func goldenResponses() []*responseEntry {
	at := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	return []*responseEntry{
		{
			ResponseReport: ResponseReport{Alert: "memory", Action: "restart-plugin:logtail", Outcome: ResponseLimited, At: at, Detail: "done 2 times within 1h0m0s; from 2026-11-26T08:30:00Z on it may be again"},
			Times:          []time.Time{at.Add(-30 * time.Minute), at.Add(-10 * time.Minute)},
		},
		{
			ResponseReport: ResponseReport{Alert: "disk", Action: "drain", Outcome: ResponseDone, At: at},
			Times:          []time.Time{at}, InForce: true,
		},
	}
}

func TestRecordOfResponsesKeepsItsFormat(t *testing.T) {
	const golden = "testdata/responses-1.json"
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseResponses(golden, want)
	if err != nil || !reflect.DeepEqual(got, goldenResponses()) {
		t.Errorf("read %+v, %v", got, err)
	}
	r := &responseRecord{path: filepath.Join(t.TempDir(), responseFile), entries: goldenResponses()}
	if err := r.write(goldenResponses()[0].At); err != nil {
		t.Fatal(err)
	}
	if wrote, err := os.ReadFile(r.path); err != nil || string(wrote) != string(want) {
		t.Errorf("wrote, %v:\n%s", err, wrote)
	}
}

func TestLimitOfResponsesHoldsOverRestartsAndClocks(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	stop := Response{Alert: "dead", Action: RespondStop, Limit: 2, Within: time.Hour}
	begin := func(r Response, at time.Time) string {
		t.Helper()
		limited, err := openResponses(dir).begin(r, at) // each time in another process
		if err != nil {
			t.Fatal(err)
		}
		return limited
	}
	for i, tc := range []struct {
		after   time.Duration
		allowed bool
	}{
		{0, true}, {10 * time.Minute, true}, {20 * time.Minute, false}, {59 * time.Minute, false},
		{61 * time.Minute, true}, {62 * time.Minute, false},
		{-24 * time.Hour, false}, // the clock was put back: what lies ahead counts as just now
	} {
		if limited := begin(stop, now.Add(tc.after)); (limited == "") != tc.allowed {
			t.Errorf("%d, after %v: limited %q, want allowed %v", i, tc.after, limited, tc.allowed)
		}
	}
	drain := Response{Alert: "sick", Action: RespondDrain, Limit: 1, Within: time.Hour}
	if begin(drain, now) != "" || begin(drain, now.Add(time.Minute)) != "" {
		t.Error("what was in force when the process ended is limited in the next")
	}
	if err := openResponses(dir).end(drain, ResponseUndone, "", now.Add(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if begin(drain, now.Add(3*time.Minute)) == "" {
		t.Error("a drain that was undone is done again within its limit")
	}
}

// TestCallThatMayHaveEndedTheProcessCountsInTheNext: it would otherwise be made
// at every start, whatever its limit.
func TestCallThatMayHaveEndedTheProcessCountsInTheNext(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	nothing := func(context.Context, health.Alert) error { return nil }
	call := Response{Alert: "dead", Action: RespondCall, Do: nothing, Undo: nothing, Limit: 1, Within: time.Hour}
	if limited, err := openResponses(dir).begin(call, now); limited != "" || err != nil {
		t.Fatal(limited, err)
	}
	if limited, _ := openResponses(dir).begin(call, now.Add(time.Minute)); limited == "" {
		t.Error("a call that has not returned in the process before is made again within its limit")
	}
	if err := openResponses(dir).end(call, ResponseDone, "", now); err != nil {
		t.Fatal(err)
	}
	r := openResponses(dir)
	r.entries[0].InForce = true // as it is where the call has returned before the process ended
	if limited, _ := r.begin(call, now.Add(time.Minute)); limited != "" {
		t.Errorf("a call that is in force is %s in the next process", limited)
	}
}

// TestLongestRecordOfResponsesIsReadAgain: one that is not keeps every alert from
// stopping the agent.
func TestLongestRecordOfResponsesIsReadAgain(t *testing.T) {
	now := time.Date(2026, 11, 26, 8, 0, 0, 123456789, time.UTC)
	r := openResponses(t.TempDir())
	for i := range maxResponses {
		e := &responseEntry{ResponseReport: ResponseReport{
			Alert: fmt.Sprintf("%0128d", i), Action: "restart-plugin:" + strings.Repeat("p", 64), Outcome: ResponseFailed, At: now, Detail: brief(strings.Repeat("<", 500)),
		}, InForce: true}
		for range maxResponseLimit {
			e.Times = append(e.Times, now)
		}
		r.entries = append(r.entries, e)
	}
	if err := r.write(now); err != nil {
		t.Fatal(err)
	}
	if again := openResponses(filepath.Dir(r.path)); again.broken != nil || len(again.entries) != maxResponses {
		t.Errorf("%d responses, %v", len(again.entries), again.broken)
	}
}

// FuzzResponses: what is read must be written in a form that is read again.
func FuzzResponses(f *testing.F) {
	golden, err := os.ReadFile("testdata/responses-1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"schema":1,"responses":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseResponses("fuzz", data)
		if err != nil {
			return
		}
		again, err := json.Marshal(responseRecordFile{schema, entries})
		if err != nil {
			t.Skip() // a year that JSON has no form for
		}
		if _, err := parseResponses("again", again); err != nil && !strings.Contains(err.Error(), "bytes") {
			t.Fatalf("what was written cannot be read: %v: %s", err, again)
		}
	})
}

// TestBriefIsTheBeginningOfTheText, whatever it is made of: a version or a reason
// of an agent would be shown without its end, or without the sign that it was cut.
func TestBriefIsTheBeginningOfTheText(t *testing.T) {
	for name, piece := range map[string]string{
		"letters": "x", "lines": "a\n", "control": "\x1b[2J", "invisible, of two bytes": "\u00ad", "invisible, of four": "\U000e0041", "not UTF-8": "\xff", "a rune cut in two": "\xf3\xa0", "wide": "é€𝄞",
	} {
		for n := range 3 * responseDetail {
			text := strings.Repeat(piece, n)
			want := printable(text)
			if len(want) > responseDetail {
				cut := responseDetail - len("…")
				for !utf8.RuneStart(want[cut]) {
					cut--
				}
				want = want[:cut] + "…"
			}
			if got := brief(text); got != want {
				t.Fatalf("%d × %s: %q, want %q", n, name, got, want)
			}
		}
	}
}
