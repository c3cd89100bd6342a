package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxExcludes bounds what one probe may leave out.
const maxExcludes = 100

// question is one of the three that probes ask.
type question struct {
	path, word string
	// part is which checks take part in it.
	part func(Kind) bool
	// answer is what the checks make of it.
	answer func(answers) bool
	// whole has the verbose answer show what takes no part as well.
	whole bool
}

func questions() []question {
	return []question{
		{path: "/livez", word: "live", part: Kind.live, answer: func(a answers) bool { return a.live }},
		{path: "/readyz", word: "ready", part: Kind.ready, answer: func(a answers) bool { return a.ready }, whole: true},
		{path: "/startupz", word: "started", part: Kind.startup, answer: func(a answers) bool { return a.started }},
	}
}

// Handler serves /livez, /readyz, /startupz and /metrics.
//
// The first three answer GET and HEAD with 200 or 503, from the last results:
// a probe runs nothing. The body is "ok" or the names of what fails; with
// ?verbose it lists every check with its reason, and /readyz the indicators
// and alerts as well; with ?format=json, or if the request accepts
// application/json, it is the Report. ?exclude=<name>, which may be repeated up
// to 100 times, leaves a check out; one that there is not changes nothing, and
// the verbose answer says so. /readyz/<name> and the like are about that one
// check, 404 if it takes no part in that answer.
//
// Reasons can tell about the inside of a system: serve them where operators can
// reach them and strangers cannot; Detailed tells such a request.
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, q := range questions() {
		mux.HandleFunc("GET "+q.path, func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, q) })
		mux.HandleFunc("GET "+q.path+"/{check...}", func(w http.ResponseWriter, r *http.Request) { m.serveOne(w, r, q) })
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		// One bad metric of the program must not hide all the others.
		ErrorHandling: promhttp.ContinueOnError,
		// It costs more than all the rest, and most scrapes are near by.
		DisableCompression: true,
		Registry:           m.registry,
	}))
	return mux
}

// Detailed reports whether r, for one of the probes of Handler, asks for
// reasons and figures and not for the bare answer alone.
func Detailed(r *http.Request) bool {
	return r.URL.Query().Has("verbose") || wantsJSON(r)
}

func wantsJSON(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// answer is a question with what is said to it.
type answer struct {
	question
	ok     bool
	report Report
	// excluded were left out, unmatched would have been.
	excluded, unmatched []string
}

func (m *Monitor) serve(w http.ResponseWriter, r *http.Request, q question) {
	names := r.URL.Query()["exclude"]
	if len(names) > maxExcludes {
		http.Error(w, fmt.Sprintf("%d checks are to be excluded, at most %d may be", len(names), maxExcludes), http.StatusBadRequest)
		return
	}
	a := answer{question: q, report: m.Report()}
	for _, name := range names {
		switch known := slices.ContainsFunc(a.report.Checks, func(c CheckReport) bool { return c.Name == name }); {
		case slices.Contains(a.excluded, name) || slices.Contains(a.unmatched, name):
		case known:
			a.excluded = append(a.excluded, name)
		default:
			a.unmatched = append(a.unmatched, name)
		}
	}
	now := answersOf(a.report.Checks, a.leftOut)
	a.report.Live, a.report.Ready, a.report.Starting = now.live, now.ready, !now.started
	a.ok = q.answer(now)
	write(w, r, a.ok, a, func(verbose bool) string {
		if verbose {
			return a.verbose()
		}
		return a.bare()
	})
}

// serveOne answers for one check.
func (m *Monitor) serveOne(w http.ResponseWriter, r *http.Request, q question) {
	name, checks := r.PathValue("check"), m.Report().Checks
	i := slices.IndexFunc(checks, func(c CheckReport) bool { return c.Name == name && q.part(c.Kind) })
	if i < 0 {
		http.Error(w, "no such check takes part in "+q.path+": "+q.path+"?verbose lists those that do", http.StatusNotFound)
		return
	}
	c := checks[i]
	write(w, r, c.OK, c, func(verbose bool) string {
		switch {
		case verbose:
			return c.line() + "\n"
		case c.OK:
			return "ok\n"
		}
		return "not " + q.word + ": " + c.Name + "\n"
	})
}

func write(w http.ResponseWriter, r *http.Request, ok bool, form any, text func(verbose bool) string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept")
	var body, contentType string
	if wantsJSON(r) {
		data, err := json.MarshalIndent(form, "", "  ")
		if err != nil {
			http.Error(w, "report: "+err.Error(), http.StatusInternalServerError)
			return
		}
		body, contentType = string(data)+"\n", "application/json"
	} else {
		body, contentType = text(r.URL.Query().Has("verbose")), "text/plain; charset=utf-8"
	}
	h.Set("Content-Type", contentType)
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write([]byte(body))
}

func (a answer) leftOut(name string) bool { return slices.Contains(a.excluded, name) }

// MarshalJSON is the Report, with Live, Ready and Starting as they are without
// what was left out.
func (a answer) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Report
		Excluded  []string `json:"excluded,omitempty"`
		Unmatched []string `json:"excluded_unknown,omitempty"`
	}{a.report, a.excluded, a.unmatched})
}

func (a answer) bare() string {
	if a.ok {
		return "ok\n"
	}
	var failed []string
	for _, c := range a.report.Checks {
		if a.part(c.Kind) && !c.OK && !a.leftOut(c.Name) {
			failed = append(failed, c.Name)
		}
	}
	return "not " + a.word + ": " + strings.Join(failed, ", ") + "\n"
}

func (a answer) verbose() string {
	var b strings.Builder
	for _, c := range a.report.Checks {
		switch {
		case !a.part(c.Kind) && !a.whole:
		case a.leftOut(c.Name):
			fmt.Fprintf(&b, "[+] %s excluded: ok\n", c.Name)
		default:
			fmt.Fprintln(&b, c.line())
		}
	}
	if a.whole {
		for _, i := range a.report.Indicators {
			fmt.Fprintln(&b, i.line())
		}
	}
	if len(a.unmatched) > 0 {
		quoted := make([]string, len(a.unmatched))
		for i, name := range a.unmatched {
			quoted[i] = strconv.Quote(name[:min(len(name), 128)])
		}
		fmt.Fprintf(&b, "warn: some checks cannot be excluded: no matches for %s\n", strings.Join(quoted, ", "))
	}
	switch {
	case !a.ok:
		fmt.Fprintf(&b, "not %s\n", a.word)
	case a.path == "/livez" && a.report.Starting:
		fmt.Fprintf(&b, "%s: not judged before startup is over\n", a.word)
	default:
		fmt.Fprintf(&b, "%s\n", a.word)
	}
	return b.String()
}

func (c CheckReport) line() string {
	if c.OK {
		return fmt.Sprintf("[+] %s ok", c.Name)
	}
	return fmt.Sprintf("[-] %s failed: %s", c.Name, c.Error)
}

func (i IndicatorReport) line() string {
	text := fmt.Sprintf("[%s] %s", i.State, i.Name)
	if i.At.IsZero() && i.State == Unknown {
		text += " no value"
	} else {
		text += strings.TrimSuffix(fmt.Sprintf(" %.4g %s", float64(i.Value), i.Unit), " ")
	}
	if i.Rule != "" {
		text += fmt.Sprintf(", alert %s above %g", i.Rule, float64(i.Threshold))
	}
	if i.Basis != "" {
		text += " (" + i.Basis + ")"
	}
	if i.failing {
		text += ": " + i.Error
	}
	return text
}
