package health_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/health"
)

func get(t *testing.T, srv *httptest.Server, target, accept string) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func serveHealth(t *testing.T, m *health.Monitor) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(m.Handler())
	t.Cleanup(srv.Close)
	return srv
}

func TestProbesTellLiveFromReady(t *testing.T) {
	m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{{Name: "slow", Indicator: "latency", Above: 1}}, Checks: []health.Check{
		{Name: "loop", Kind: health.Liveness, Func: passes},
		{Name: "store", Func: passes},
		{Name: "extra", Kind: health.Informative, Func: fails},
	}})
	m.Evaluate(t.Context())
	m.Observe("latency", 0.25)
	srv := serveHealth(t, m)
	probe := func(name, target string, wantStatus int, wantBody string) {
		t.Run(name, func(t *testing.T) {
			if status, body, _ := get(t, srv, target, ""); status != wantStatus || body != wantBody {
				t.Errorf("%s: %d %q, want %d %q", target, status, body, wantStatus, wantBody)
			}
		})
	}
	probe("live", "/livez", 200, "ok\n")
	probe("ready", "/readyz", 200, "ok\n")
	probe("live in full", "/livez?verbose", 200, "[+] loop ok\nlive\n")
	probe("ready in full", "/readyz?verbose", 200, "[-] extra failed: down\n[+] loop ok\n[+] store ok\n[unknown] latency 0.25, alert slow above 1\nready\n")
	m.Set("draining", errors.New("an upgrade is under way"))
	probe("a draining process stays live", "/livez", 200, "ok\n")
	probe("a draining process is not ready", "/readyz", 503, "not ready: draining\n")
	probe("the reason is in the full answer", "/readyz?verbose", 503, "[-] draining failed: an upgrade is under way\n[-] extra failed: down\n[+] loop ok\n[+] store ok\n[unknown] latency 0.25, alert slow above 1\nnot ready\n")
}

func TestProbesAnswerForOneCheckAndWithoutOne(t *testing.T) {
	m := newMonitor(t, health.Config{Rules: []health.Rule{}, Checks: []health.Check{
		{Name: "cache", Kind: health.Startup, Func: passes},
		{Name: "loop", Kind: health.Liveness, Func: passes},
		{Name: "db/tables", Func: fails},
		{Name: "store", Func: passes},
	}})
	m.Evaluate(t.Context())
	srv := serveHealth(t, m)
	probe := func(name, target string, wantStatus int, wantBody string) {
		t.Run(name, func(t *testing.T) {
			if status, body, _ := get(t, srv, target, ""); status != wantStatus || body != wantBody {
				t.Errorf("%s: %d %q, want %d %q", target, status, body, wantStatus, wantBody)
			}
		})
	}
	probe("one that passes", "/readyz/store", 200, "ok\n")
	probe("one that fails", "/readyz/db/tables", 503, "not ready: db/tables\n")
	probe("why it fails", "/readyz/db/tables?verbose", 503, "[-] db/tables failed: down\n")
	probe("one of liveness", "/livez/loop", 200, "ok\n")
	probe("one of startup", "/startupz/cache", 200, "ok\n")
	probe("one of another question", "/livez/store", 404, "no such check takes part in /livez: /livez?verbose lists those that do\n")
	probe("one that there is not", "/readyz/x", 404, "no such check takes part in /readyz: /readyz?verbose lists those that do\n")
	probe("startup", "/startupz?verbose", 200, "[+] cache ok\nstarted\n")
	probe("without what fails", "/readyz?exclude=db/tables", 200, "ok\n")
	probe("without another", "/readyz?exclude=store", 503, "not ready: db/tables\n")
	probe("without what there is not", "/readyz?exclude=x", 503, "not ready: db/tables\n")
	probe("what is left out is told", "/readyz?verbose&exclude=db/tables&exclude=store&exclude=x%0a&exclude=y&exclude=y", 200,
		"[+] cache ok\n[+] db/tables excluded: ok\n[+] loop ok\n[+] store excluded: ok\n"+
			"warn: some checks cannot be excluded: no matches for \"x\\n\", \"y\"\nready\n")
	probe("too much to leave out", "/readyz?"+strings.Repeat("exclude=x&", 101), 400, "101 checks are to be excluded, at most 100 may be\n")
	t.Run("JSON without what fails", func(t *testing.T) {
		status, body, _ := get(t, srv, "/readyz?format=json&exclude=db/tables&exclude=x", "")
		var got struct {
			health.Report
			Excluded []string `json:"excluded"`
			Unknown  []string `json:"excluded_unknown"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
			t.Fatalf("%d, %v: %s", status, err, body)
		}
		if !got.Ready || len(got.Checks) != 4 || len(got.Excluded) != 1 || len(got.Unknown) != 1 {
			t.Errorf("%s", body)
		}
	})
	t.Run("JSON of one check", func(t *testing.T) {
		status, body, _ := get(t, srv, "/readyz/db/tables", "application/json")
		var got health.CheckReport
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 503 || got.Error != "down" {
			t.Errorf("%d, %v: %s", status, err, body)
		}
	})
	m.SetStartup("listeners", errDown)
	probe("startup is not over", "/startupz", 503, "not started: listeners\n")
	probe("liveness is not judged", "/livez?verbose", 200, "[+] loop ok\nlive: not judged before startup is over\n")
}

func TestRequestForReasonsIsToldFromOneForTheBareAnswer(t *testing.T) {
	for target, want := range map[string]bool{
		"/readyz": false, "/readyz?exclude=a": false, "/readyz/a?format=text": false,
		"/readyz?verbose": true, "/livez?verbose=0": true, "/readyz/a?format=json": true,
	} {
		if got := health.Detailed(httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil)
	r.Header.Set("Accept", "application/json")
	if !health.Detailed(r) {
		t.Error("JSON has the reasons in it")
	}
}

// BenchmarkReadyz is the cached answer of an agent with many checks: a probe
// must cost next to nothing.
func BenchmarkReadyz(b *testing.B) {
	cfg := health.Config{}
	for i := range 20 {
		c := health.Check{Name: fmt.Sprint("check", i), Func: passes}
		if i > 0 {
			c.After = []string{"check0"}
		}
		cfg.Checks = append(cfg.Checks, c)
	}
	m, err := health.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	m.Evaluate(b.Context())
	h := m.Handler()
	for _, target := range []string{"/readyz", "/readyz?verbose", "/readyz?format=json"} {
		b.Run(target, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, target, nil)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}

func TestProbeAsJSONIsTheReport(t *testing.T) {
	m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}})
	m.Set("registration", errDown)
	m.Observe(health.HeartbeatLatency, math.Inf(1))
	srv := serveHealth(t, m)
	for _, tc := range []struct{ target, accept string }{
		{"/readyz?format=json", ""},
		{"/readyz", "application/json"},
		{"/readyz", "text/html;q=0.5, application/json"},
		{"/readyz?format=json", "text/plain"},
	} {
		status, body, header := get(t, srv, tc.target, tc.accept)
		var r health.Report
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatalf("%+v: %v in %s", tc, err, body)
		}
		if status != 503 || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%+v: status %d, header %v", tc, status, header)
		}
		if r.Ready || check(t, r, "registration").Error != "down" || !math.IsInf(float64(r.Indicators[0].Value), 1) {
			t.Errorf("%+v: %+v", tc, r)
		}
	}
	if _, body, _ := get(t, srv, "/readyz?format=text", "application/json"); strings.HasPrefix(body, "{") {
		t.Error("an explicit format lost to the Accept header")
	}
}

func TestProbesRefuseOtherMethods(t *testing.T) {
	srv := serveHealth(t, newMonitor(t, health.Config{NoBuiltIn: true}))
	for _, target := range []string{"/livez", "/readyz", "/metrics"} {
		for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405} {
			req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s %s: %d, want %d", method, target, resp.StatusCode, want)
			}
		}
	}
}

func TestMetricsShowTheTree(t *testing.T) {
	m := newMonitor(t, health.Config{
		NoBuiltIn: true,
		// Two rules on one indicator must not become two series of one name.
		Rules: []health.Rule{{Name: "warn", Indicator: "queue", Above: 1}, {Name: "crit", Indicator: "queue", Above: 9}},
		Checks: []health.Check{
			{Name: "disk", Kind: health.Liveness, Func: passes},
			{Name: "peer", Func: fails},
		},
	})
	m.Evaluate(t.Context())
	m.Set("bad\xffname", nil)
	m.Observe("queue", 7)
	m.Registry().MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "own_metric"}, func() float64 { return 42 }))
	if _, err := m.Registry().Gather(); err != nil {
		t.Errorf("a metric is dropped: %v", err)
	}
	status, body, _ := get(t, serveHealth(t, m), "/metrics", "")
	for _, want := range []string{
		"perennial_health_live 1\n",
		"perennial_health_ready 0\n",
		`perennial_health_check_ok{check="disk",kind="liveness"} 1`,
		`perennial_health_check_ok{check="peer",kind="readiness"} 0`,
		`perennial_health_check_ok{check="bad?name",kind="readiness"} 1`,
		`perennial_health_indicator{indicator="queue"} 7`,
		`perennial_health_alert_firing{alert="crit",severity="warning"} 0`,
		`perennial_health_alert_firing{alert="warn",severity="warning"} 0`,
		"own_metric 42\n", "go_goroutines ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	if status != 200 || t.Failed() {
		t.Errorf("status %d:\n%s", status, body)
	}
}
