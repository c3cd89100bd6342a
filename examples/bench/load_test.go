package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/bench/internal/service"
)

func TestAcknowledgedRecordThatIsInNoFileCountsAsLost(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.ndjson": `{"record":1}` + "\n" + `{"record":2}` + "\n",
		"b.ndjson": `{"record":4}` + "\nno record\n" + `{"record":5}`, // torn
		"c.other":  `{"record":3}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var l ledger
	l.next.Store(6)
	l.acknowledge([]int64{1, 2, 4})
	if lost, err := l.lost(dir); lost != 0 || err != nil {
		t.Errorf("all are there, found %d lost (%v)", lost, err)
	}
	l.acknowledge([]int64{3, 5, 6})
	if lost, err := l.lost(dir); lost != 3 || err != nil {
		t.Errorf("want 3 lost, found %d (%v)", lost, err)
	}
}

// A load that misses failures, or takes records for acknowledged that are
// not, would find every server good.
func TestLoadCountsWhatFailsAndWhatWasAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	records, err := service.Open(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := httptest.NewServer(records.Handler())
	defer good.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()

	var l ledger
	run := startLoad(t.Context(), good.URL, time.Millisecond, &l)
	if err := run.await(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	run.stop()
	answered := 0
	run.each(func(sample) { answered++ })
	if run.failures != 0 || answered < 200 || int64(answered) != run.requests.Load() || len(l.acked) == 0 {
		t.Errorf("found %d failures (%s), %d answers of %d requests, %d acknowledged", run.failures, run.first, answered, run.requests.Load(), len(l.acked))
	}
	if _, ok := run.answered[os.Getpid()]; !ok || len(run.answered) != 1 {
		t.Errorf("want answers of this process, found %v", run.answered)
	}
	if err := records.Close(); err != nil {
		t.Error(err)
	}
	if lost, err := l.lost(dir); lost != 0 || err != nil {
		t.Errorf("%d lost (%v)", lost, err)
	}

	acked := len(l.acked)
	run = startLoad(t.Context(), bad.URL, 0, &l)
	if err := run.await(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	bad.Close()
	if err := run.await(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	run.stop()
	if int64(run.failures) != run.requests.Load() || run.refused == 0 || run.refused == run.failures || run.first == "" || len(l.acked) != acked {
		t.Errorf("all failed and some were refused, found %d of %d failed, %d refused, first %q, %d acknowledged", run.failures, run.requests.Load(), run.refused, run.first, len(l.acked)-acked)
	}
}

func TestPhasesAreToldFromTheLogsOfBothProcesses(t *testing.T) {
	log := `records on http://127.0.0.1:1
{"time":"2026-01-01T00:00:00.1Z","msg":"upgrade","state":"downloading","release":"1.0.1"}
{"time":"2026-01-01T00:00:00.3Z","msg":"upgrade","state":"verifying","release":"1.0.1"}
{"time":"2026-01-01T00:00:00.4Z","msg":"slot removed","state":"staged","release":"1.0.1"}
{"time":"2026-01-01T00:00:01Z","msg":"upgrade","state":"downloading","release":"1.0.2"}
{"time":"2026-01-01T00:00:02Z","msg":"upgrade","state":"committing","release":"1.0.1"}
{"time":"2026-01-01T00:00:02.5Z","msg":"upgrade","state":"gone","release":"1.0.1"}
`
	got := map[string][]float64{}
	for _, s := range phases([]byte(log)) {
		if len(s.samples) > 0 {
			got[s.what] = s.samples
		}
	}
	if len(got) != 2 || got["upgrade alone: download and its check"][0] != 200 || got["upgrade alone: commit, drain and end of the process before"][0] != 500 {
		t.Errorf("found %v", got)
	}
}

func TestPidIsReadFromAnAnswer(t *testing.T) {
	for answer, want := range map[string]int{
		`{"pid":4711,"started":"x"}`: 4711,
		`{"id":"a","pid":7}`:         7,
		`{"id":"a"}`:                 0,
		`{"pid":"x"}`:                0,
		``:                           0,
	} {
		if got := pidIn([]byte(answer)); got != want {
			t.Errorf("%s: want %d, found %d", answer, want, got)
		}
	}
}
