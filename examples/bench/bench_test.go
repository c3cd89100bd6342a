package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A real run, as small as it can be: it measures, says so in JSON, and leaves
// neither files nor processes.
func TestQuickRunMeasuresAndLeavesNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds agentd and swaps real processes")
	}
	if runtime.GOOS == "windows" {
		t.Skip("no hot swap on windows")
	}
	tmp, err := os.MkdirTemp("", "b") //nolint:usetesting // a short name: what lies below holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(tmp) })
	t.Setenv("TMPDIR", tmp)
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"--quick", "--agents", "50", "--only", "start,storm,rollback,plugin,pluginstart,plugins200,tasks,fanout,rollout", "-o", "json"}, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v in\n%s", err, stdout.String())
	}
	var names []string
	for _, f := range r.Figures {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"start", "storm", "rollback", "fanout", "rollout", "plugin", "pluginstart", "plugins200", "tasks"}) || !r.Machine.Quick || r.Schema != 1 {
		t.Fatalf("the report is\n%s", stdout.String())
	}
	for _, f := range r.Figures {
		for _, m := range f.Measures {
			if m.N == 0 || m.Min <= 0 || m.Median < m.Min || m.Max < m.Median || m.Max > 60e6 {
				t.Errorf("%s: %+v", f.Name, m)
			}
		}
	}
	if v := r.Figures[0].Verdicts[0]; v.Target == nil || v.Met == nil || *v.Met != (v.Value <= *v.Target) {
		t.Errorf("the verdict on start is %+v", v)
	}
	for _, v := range r.Figures[8].Verdicts[:2] {
		if v.Value != 0 || v.Met == nil {
			t.Errorf("tasks: %+v", v)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if strings.Contains(readText(p), tmp+"/") {
			t.Errorf("left running: %q", readText(p))
		}
	}
}

func TestWrongUsageIsSaidAndMeasuresNothing(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"figure that is not there": {[]string{"--only", "start,speed"}, `"speed"`},
		"output of another form":   {[]string{"-o", "xml"}, `"xml"`},
		"flag that is not there":   {[]string{"--fast"}, "fast"},
		"fewer agents than none":   {[]string{"--agents", "-1"}, "-1"},
		"argument":                 {[]string{"start"}, `"start"`},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), c.args, &stdout, &stderr)
			if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want an error of usage with %s, found %v", c.says, err)
			}
			if stdout.Len() > 0 || stderr.Len() > 0 {
				t.Errorf("it wrote %q and %q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestHelpNamesEveryFigureAndFlag(t *testing.T) {
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &stdout, &stdout); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{"Examples:", "-only", "-quick", "-o", "-keep"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
	for _, s := range sections() {
		if !strings.Contains(stdout.String(), s.name+" ") || !strings.Contains(stdout.String(), s.title) {
			t.Errorf("no %s in\n%s", s.name, stdout.String())
		}
	}
}

func TestMedianIsTheMiddleOfTheSamplesInAnyOrder(t *testing.T) {
	for name, c := range map[string]struct {
		samples []float64
		median  float64
		p90     float64
	}{
		"one":  {[]float64{7}, 7, 7},
		"odd":  {[]float64{10, 1, 3}, 3, 8.6},
		"even": {[]float64{8, 1, 2, 4}, 3, 6.8},
	} {
		t.Run(name, func(t *testing.T) {
			s := series{unit: "ms", samples: c.samples}
			if m := s.measure(); math.Abs(m.Median-c.median) > 1e-9 || math.Abs(m.P90-c.p90) > 1e-9 {
				t.Errorf("%+v", m)
			}
		})
	}
	s := series{unit: "ms"}
	s.addTime(1500 * time.Microsecond)
	if s.median() != 1.5 {
		t.Errorf("1500 µs are %v ms", s.median())
	}
}

func TestTextShowsTargetsMissedAndFiguresSkipped(t *testing.T) {
	var out bytes.Buffer
	r := newReporter("text", &out)
	r.begin(machine{})
	err := errors.Join(
		r.add(figure{Name: "start", Title: "x", Verdicts: []verdict{within("ratio", "×", 1.62, 1.5), within("ratio", "×", 1.5, 1.5)}}),
		r.add(figure{Name: "stage", Title: "y", Skipped: "no curl"}),
		r.end(),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ratio: 1.62 × (target ≤ 1.50 ×: missed)", "ratio: 1.50 × (target ≤ 1.50 ×: met)", "skipped: no curl"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestRestampChangesNothingButTheVersion(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(from, []byte("a"+firstVersion+"b"+firstVersion+"c"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := restamp(from, to, "1.0.10002"); err != nil {
		t.Fatal(err)
	}
	if got := readText(to); got != "a1.0.10002b1.0.10002c" {
		t.Errorf("found %q", got)
	}
	for name, version := range map[string]string{"same version": firstVersion, "longer version": "1.0.100000"} {
		if err := restamp(from, to, version); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
