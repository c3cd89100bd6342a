package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
)

// report is the whole output as JSON.
type report struct {
	Schema  int      `json:"schema"`
	Machine machine  `json:"machine"`
	Figures []figure `json:"figures"`
}

// reporter writes figures as text, each when it is there, or all as JSON at
// the end.
type reporter struct {
	w      io.Writer
	json   bool
	report report
	err    error
}

func newReporter(format string, w io.Writer) *reporter {
	return &reporter{w: w, json: format == "json", report: report{Schema: 1}}
}

func (r *reporter) printf(format string, args ...any) {
	if r.err == nil && !r.json {
		_, r.err = fmt.Fprintf(r.w, format, args...)
	}
}

func (r *reporter) begin(m machine) {
	r.report.Machine = m
	r.printf("%s\n", m)
}

// add returns what has kept the report from being written so far.
func (r *reporter) add(f figure) error {
	r.report.Figures = append(r.report.Figures, f)
	r.printf("\n== %s: %s\n\n", f.Name, f.Title)
	if f.Skipped != "" {
		r.printf("skipped: %s\n", f.Skipped)
		return r.err
	}
	r.table(f.Measures)
	for _, v := range f.Verdicts {
		r.printf("%s: %s%s\n", v.What, number(v.Value), v.words())
	}
	for _, n := range f.Notes {
		r.printf("(%s)\n", n)
	}
	r.printf("(load average after it %s)\n", f.Load)
	return r.err
}

func (r *reporter) table(all []measure) {
	if r.json || r.err != nil || len(all) == 0 {
		return
	}
	counts := false
	for _, m := range all {
		counts = counts || m.Sum != nil
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(what, unit string, cells ...string) {
		_, _ = fmt.Fprintf(t, "%s\t%s\t", what, unit)
		for _, c := range cells {
			_, _ = fmt.Fprintf(t, "%s\t", c)
		}
		_, _ = fmt.Fprintln(t)
	}
	head := []string{"n", "median", "p90", "min", "max"}
	if counts {
		head = append(head, "sum")
	}
	line("", "", head...)
	for _, m := range all {
		cells := []string{strconv.Itoa(m.N), number(m.Median), number(m.P90), number(m.Min), number(m.Max)}
		if m.Sum != nil {
			cells = append(cells, number(*m.Sum))
		}
		line(m.What, m.Unit, cells...)
	}
	r.err = t.Flush()
	r.printf("\n")
}

func (v verdict) words() string {
	unit := ""
	if v.Unit != "" {
		unit = " " + v.Unit
	}
	if v.Target == nil {
		return unit
	}
	words := "missed"
	if *v.Met {
		words = "met"
	}
	return fmt.Sprintf("%s (target ≤ %s%s: %s)", unit, number(*v.Target), unit, words)
}

// number shows three digits or more.
func number(v float64) string {
	switch size := math.Abs(v); {
	case v == math.Trunc(v) && size < 1e9:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func (r *reporter) end() error {
	if !r.json {
		return r.err
	}
	e := json.NewEncoder(r.w)
	e.SetIndent("", "  ")
	return e.Encode(r.report)
}
