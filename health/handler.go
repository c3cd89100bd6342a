package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /livez, /readyz and /metrics.
//
// /livez and /readyz answer GET and HEAD with 200 or 503. The body is "ok" or
// the names of what fails; with ?verbose it lists every check with its reason,
// and /readyz the indicators and alerts as well; with ?format=json, or if the
// request accepts application/json, it is the Report. Reasons can tell about
// the inside of a system: serve them where operators can reach them and
// strangers cannot.
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		report := m.Report()
		serve(w, r, answer{word: "live", ok: report.Live, part: Kind.live, report: report})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		report := m.Report()
		serve(w, r, answer{word: "ready", ok: report.Ready, part: Kind.ready, report: report, whole: true})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		// One bad metric of the program must not hide all the others.
		ErrorHandling: promhttp.ContinueOnError,
		Registry:      m.registry,
	}))
	return mux
}

type answer struct {
	word   string
	ok     bool
	part   func(Kind) bool // takes part in this answer
	whole  bool            // verbose shows what takes no part as well
	report Report
}

func serve(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept")
	body, contentType := a.text(r.URL.Query().Has("verbose")), "text/plain; charset=utf-8"
	if wantsJSON(r) {
		data, err := json.MarshalIndent(a.report, "", "  ")
		if err != nil {
			http.Error(w, "report: "+err.Error(), http.StatusInternalServerError)
			return
		}
		body, contentType = string(data)+"\n", "application/json"
	}
	h.Set("Content-Type", contentType)
	if !a.ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write([]byte(body))
}

func wantsJSON(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func (a answer) text(verbose bool) string {
	if verbose {
		return a.verbose()
	}
	if a.ok {
		return "ok\n"
	}
	var failed []string
	for _, c := range a.report.Checks {
		if a.part(c.Kind) && !c.OK {
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
		case c.OK:
			fmt.Fprintf(&b, "[+] %s ok\n", c.Name)
		default:
			fmt.Fprintf(&b, "[-] %s failed: %s\n", c.Name, c.Error)
		}
	}
	if a.whole {
		for _, i := range a.report.Indicators {
			fmt.Fprintln(&b, i.line())
		}
	}
	if a.ok {
		fmt.Fprintf(&b, "%s\n", a.word)
	} else {
		fmt.Fprintf(&b, "not %s\n", a.word)
	}
	return b.String()
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
	if i.ErrorAt.After(i.At) {
		text += ": " + i.Error
	}
	return text
}
