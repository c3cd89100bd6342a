package upgrade

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perennial-go/perennial/upgrade/release"
)

func begun(started time.Time) Attempt {
	return Attempt{From: Ref{Version: "1.0.0"}, To: Ref{Version: "1.1.0"}, Started: started}
}

// through takes a journal through states.
func through(tb testing.TB, j *journal, states ...State) {
	tb.Helper()
	for _, s := range states {
		if err := j.move(s, nil); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestTotalsAreInTheWriteThatTellsOfAnEnd: a process that dies right before or
// after it must not make an attempt count never, or twice.
func TestTotalsAreInTheWriteThatTellsOfAnEnd(t *testing.T) {
	dir := t.TempDir()
	open := func() *journal {
		t.Helper()
		j, err := openJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	if err := j.begin(begun(time.Now().Add(-20 * time.Second))); err != nil {
		t.Fatal(err)
	}
	through(t, j, Staged, Starting, Probation, Committing)
	if ended := open().totals; ended != nil {
		t.Errorf("%+v counted before the end", ended)
	}
	through(t, open(), Committed)
	j = open()
	got := j.totals.Ended[OutcomeCommitted]
	if got.Count != 1 || got.Seconds < 20 || got.Seconds > 60 || !reflect.DeepEqual(got.Buckets, map[string]uint64{"30": 1}) {
		t.Errorf("read again as %+v, want one of some 20 s", got)
	}
	// The next attempt ends though the disk takes nothing: it counts in memory.
	if err := j.begin(begun(time.Now())); err != nil {
		t.Fatal(err)
	}
	j.path = filepath.Join(dir, "nowhere", journalFile)
	if err := j.move(Failed, nil); err == nil || j.totals.Ended[OutcomeFailed].Count != 1 {
		t.Errorf("%v; %+v counted", err, j.totals)
	}
}

func TestOutcomeTellsWhatBecameOfAnAttempt(t *testing.T) {
	a, b := Ref{Version: "1.0.0"}, Ref{Version: "1.1.0"}
	for want, attempt := range map[Outcome]Attempt{
		OutcomeCommitted:  {State: Committed, From: a, To: b},
		OutcomeUnchanged:  {State: Committed, From: a, To: a},
		OutcomeRolledBack: {State: RolledBack, From: a, To: b},
		OutcomeAbandoned:  {State: RolledBack, From: a, To: b, Abandoned: true},
		OutcomeFailed:     {State: Failed, From: a, To: b},
	} {
		if got := attempt.outcome(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestTotalsThatAreDamagedDoNotKeepAnAgentFromItsJournal: they are for metrics.
func TestTotalsThatAreDamagedDoNotKeepAnAgentFromItsJournal(t *testing.T) {
	for name, totals := range map[string]string{
		"another type":        `"many"`,
		"negative":            `{"ended":{"committed":{"count":-1,"seconds":1}}}`,
		"no outcome":          `{"ended":{"dancing":{"count":1,"seconds":1}}}`,
		"more than there are": `{"ended":{"committed":{"count":1,"seconds":1,"buckets":{"1":2}}}}`,
		"sum that overflows":  `{"ended":{"committed":{"count":1,"seconds":1e308}}}`,
		"bound without end":   `{"ended":{"committed":{"count":1,"seconds":1,"buckets":{"` + strings.Repeat("9", 1<<19) + `":1}}}}`,
		"time below zero":     `{"pauses":{"committed":{"count":1,"seconds":-1}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := `{"schema":1,"state":"committed","totals":` + totals + `}`
			if err := os.WriteFile(filepath.Join(dir, journalFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := openJournal(dir)
			if err != nil || j.last.State != Committed {
				t.Fatalf("%+v, %v", j, err)
			}
			if j.totals != nil && len(j.totals.Ended)+len(j.totals.Pauses) > 0 {
				t.Errorf("taken over: %+v", j.totals)
			}
			if err := j.begin(begun(time.Now())); err != nil {
				t.Fatal(err)
			}
			if err := j.move(Failed, nil); err != nil || j.totals.Ended[OutcomeFailed].Count != 1 {
				t.Errorf("counted after it: %+v, %v", j.totals, err)
			}
		})
	}
}

func FuzzTotals(f *testing.F) {
	f.Add([]byte(`{"ended":{"committed":{"count":3,"seconds":61.5,"buckets":{"5":1,"60":1}}},"downloads":{"zstd":{"bytes":1,"obtained":2}}}`))
	f.Add([]byte(`{"pauses":{"rolled_back":{"count":18446744073709551615,"seconds":0.5,"buckets":{"NaN":1}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := &Upgrader{journal: &journal{}}
		u.counted.Store(parseTotals(data))
		if problems, err := testutil.CollectAndLint(u.Metrics()); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		read := u.counted.Load()
		if read == nil {
			return
		}
		encoded := read.ended(Attempt{State: Failed}, time.Now()).encoded()
		if again := parseTotals(encoded); !json.Valid(encoded) || again == nil {
			t.Errorf("written as %q", encoded)
		}
	})
}

// TestTotalsOfSchema1AreReadAsEver: a release that lost them would show counters
// that fell.
func TestTotalsOfSchema1AreReadAsEver(t *testing.T) {
	e, err := parseJournal(golden(t, "journal-1-totals.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := parseTotals(e.Totals)
	want := (&totals{
		Ended: map[Outcome]spans{
			OutcomeCommitted:  {Count: 3, Seconds: 4070.5, Buckets: map[string]uint64{"30": 1, "60": 1}},
			OutcomeRolledBack: {Count: 1, Seconds: 31, Buckets: map[string]uint64{"60": 1}},
		},
		Pauses:    map[Outcome]spans{OutcomeCommitted: {Count: 3, Seconds: 0.002, Buckets: map[string]uint64{"0.001": 2, "0.005": 1}}},
		Downloads: map[string]downloaded{formZstdOf: {Bytes: 1000, Obtained: 40000}, formFailed: {Bytes: 512}},
	}).with(func(*totals) {})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read as %+v, want %+v", got, want)
	}
	again, err := json.Marshal(entry{Attempt: e.Attempt, Totals: got.encoded()})
	if err != nil {
		t.Fatal(err)
	}
	first, err := json.Marshal(e)
	if err != nil || string(again) != string(first) {
		t.Errorf("written as\n%s, %v\nwant\n%s", again, err, first)
	}
}

// TestDownloadsAreCountedByWhatTheyCost: the ratio is what deltas are for.
func TestDownloadsAreCountedByWhatTheyCost(t *testing.T) {
	var all *totals
	all = all.fetched(release.Fetched{Form: "zstd from 0123456789ab", Bytes: 100}, 1000, nil)
	all = all.fetched(release.Fetched{Form: "plain", Bytes: 1000}, 1000, nil)
	all = all.fetched(release.Fetched{Bytes: 100}, 1000, errors.New("cut off"))
	all = all.fetched(release.Fetched{}, 1000, nil) // it was there
	u := &Upgrader{journal: &journal{}}
	u.counted.Store(all)
	want := `# HELP perennial_upgrade_download_saved_ratio Part of the executables' bytes that was not downloaded, of all downloads.
# TYPE perennial_upgrade_download_saved_ratio gauge
perennial_upgrade_download_saved_ratio 0.4
# HELP perennial_upgrade_download_bytes_total Bytes of releases that were downloaded, by the form that gave the executable.
# TYPE perennial_upgrade_download_bytes_total counter
perennial_upgrade_download_bytes_total{form="bsdiff_delta"} 0
perennial_upgrade_download_bytes_total{form="cache"} 0
perennial_upgrade_download_bytes_total{form="failed"} 100
perennial_upgrade_download_bytes_total{form="other"} 0
perennial_upgrade_download_bytes_total{form="plain"} 1000
perennial_upgrade_download_bytes_total{form="zstd"} 0
perennial_upgrade_download_bytes_total{form="zstd_delta"} 100
`
	err := testutil.CollectAndCompare(u.Metrics(), strings.NewReader(want), "perennial_upgrade_download_saved_ratio", "perennial_upgrade_download_bytes_total")
	if err != nil {
		t.Error(err)
	}
}

// TestBucketsOfAnotherReleaseStayAHistogram: what it counted by other bounds is
// not lost, and never more below a bound than below the next.
func TestBucketsOfAnotherReleaseStayAHistogram(t *testing.T) {
	s := spans{Count: 6, Seconds: 100, Buckets: map[string]uint64{"0.5": 1, "7": 2, "1e+09": 1, "NaN": 1}}
	got := s.cumulative([]float64{1, 5, 15})
	if want := map[float64]uint64{1: 1, 5: 1, 15: 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if s = s.add(6*time.Second, []float64{1, 5, 15}); s.Buckets["15"] != 1 || s.Count != 7 {
		t.Errorf("one more: %+v", s)
	}
}

// TestDriftSaysWhyWhatRunsIsNotWhatWasAskedFor: what must not alarm must not
// count.
func TestDriftSaysWhyWhatRunsIsNotWhatWasAskedFor(t *testing.T) {
	old, wanted := Ref{Version: "1.0.0", Binary: "aa"}, Ref{Version: "1.1.0", Manifest: "sha256:bb", Binary: "bb"}
	for _, c := range []struct {
		attempt Attempt
		running Ref
		want    string
	}{
		{Attempt{}, old, ""},
		{Attempt{State: Committed, To: wanted}, wanted, ""},
		{Attempt{State: Downloading, To: wanted}, old, driftInProgress},
		{Attempt{State: Failed, To: wanted}, old, driftFailed},
		{Attempt{State: Failed, To: wanted}, wanted, ""}, // installed by other means
		{Attempt{State: RolledBack, To: wanted}, old, driftInterrupted},
		{Attempt{State: RolledBack, To: wanted, Class: BadBinary}, old, "binary"},
		{Attempt{State: RolledBack, To: wanted, Class: BadBinary, Abandoned: true, By: ByBootGuard}, old, "binary"},
		{Attempt{State: RolledBack, To: wanted, Abandoned: true, By: "operator@host"}, old, ""},
	} {
		if got := (Status{Attempt: c.attempt, Running: c.running}).drift(); got != c.want {
			t.Errorf("%s of %s by %q while %s runs: %q, want %q", c.attempt.State, c.attempt.To.Version, c.attempt.By, c.running.Version, got, c.want)
		}
	}
}
