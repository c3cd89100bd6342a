package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// prometheus is a real one that scrapes the agent of a site.
type prometheus struct {
	t       testing.TB
	address string
}

// watch runs Prometheus with the files of examples/deploy, on the site's agent
// and with shorter intervals.
func (s *site) watch() *prometheus {
	s.t.Helper()
	program := peertest.Find(s.t, "prometheus", "debian")
	dir := filepath.Join(s.dir, "prometheus")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile("../deploy/prometheus.yml")
	if err != nil {
		s.t.Fatal(err)
	}
	// What is not scraped within an interval counts as down, on a busy machine too.
	config := strings.NewReplacer("15s", "500ms", "127.0.0.1:7071", s.admin).Replace(string(text))
	for _, changed := range []string{"scrape_interval: 500ms", "evaluation_interval: 500ms", s.admin} {
		if !strings.Contains(config, changed) {
			s.t.Fatalf("prometheus.yml is not as this test takes it to be: no %s in\n%s", changed, config)
		}
	}
	for name, text := range map[string]string{"prometheus.yml": config, "prometheus.rules.yml": agentd(s.t, "health", "rules").ok(s.t).stdout} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	p := &prometheus{t: s.t, address: porttest.Address(s.t)}
	var said waittest.Log
	cmd := exec.Command(program, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", p.address)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &said, &said, dir
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("Prometheus said:\n%s", said.String())
		}
	})
	waittest.Until(s.t, "Prometheus is ready", func() bool { return status("http://"+p.address+"/-/ready") == http.StatusOK })
	return p
}

// get reads data of its API into v.
func (p *prometheus) get(path string, v any) error {
	body, err := get("http://" + p.address + "/api/v1/" + path)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, v)
}

func get(url string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		res, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(res.Body)
		err = errors.Join(err, res.Body.Close())
		if res.StatusCode == http.StatusTooManyRequests && err == nil {
			// Whoever polls is asked to wait, and does.
			seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
			if err != nil {
				return nil, fmt.Errorf("%s: %s without a Retry-After: %w", url, res.Status, err)
			}
			<-time.After(time.Duration(seconds) * time.Second)
			continue
		}
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", url, res.Status, text)
		}
		return text, err
	}
}

// series is how many series an expression has.
func (p *prometheus) series(expr string) (int, error) {
	var data struct{ Result []any }
	err := p.get("query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// firing are the names of the alerts that fire.
func (p *prometheus) firing() ([]string, error) {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	err := p.get("alerts", &data)
	var names []string
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	return names, err
}

// TestPrometheusScrapesAnAgentAndFiresWhenItsReleaseIsWithdrawn has the agent
// do what can be seen, looks at each panel of the dashboard, holds the list of
// metrics to what is exposed, and withdraws the release that runs.
func TestPrometheusScrapesAnAgentAndFiresWhenItsReleaseIsWithdrawn(t *testing.T) {
	t.Parallel()
	peertest.Find(t, "prometheus", "debian")
	c := newCrew(t, "--check-every", "200ms", "--respond", "release_yanked=refuse-upgrades")
	c.release("1.0.0", "1.1.0")
	c.start(c.args...)
	watching := c.watch()
	c.upgrade("1.1.0").ok(t)
	c.reaches(c.submit(map[string]any{"say": []string{"hello"}}), dispatch.Succeeded)
	if code := c.post(`{"id":"r1"}` + "\n"); code/100 != 2 {
		t.Fatalf("the record is answered with %d", code)
	}
	panels := panelsToFill(t)
	waittest.Nil(t, "every panel shows something", func() error { return watching.fill(panels) })
	metricsAreThoseOfTheDocument(t, c.url(c.admin, "/metrics"))

	if names, err := watching.firing(); err != nil || slices.Contains(names, "PerennialReleaseYanked") {
		t.Fatalf("before the release is withdrawn these fire: %v (%v)", names, err)
	}
	agentd(t, "release", "yank", "--key", c.key, "--repo", c.repo, "--reason", "loses records", "1.1.0").ok(t)
	waittest.Nil(t, "Prometheus fires", func() error {
		names, err := watching.firing()
		if err == nil && !slices.Contains(names, "PerennialReleaseYanked") {
			err = fmt.Errorf("these fire: %v", names)
		}
		return err
	})
	if n, err := watching.series(`perennial_health_alert_firing{alert="release_yanked"} == 1`); err != nil || n != 1 {
		t.Errorf("the agent itself raises it in %d series (%v)", n, err)
	}
}

// panelsToFill are the expressions of the dashboard, by the titles of their
// panels, that show more than what goes wrong.
func panelsToFill(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("../deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	wrong := regexp.MustCompile(` == [01]$|_failures_total|_reconnects_total|_client_certificate_expiry`)
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".+", "$job", "perennial")
	panels, n := map[string][]string{}, 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if expr := variables.Replace(target.Expr); !wrong.MatchString(expr) {
				panels[panel.Title] = append(panels[panel.Title], expr)
				n++
			}
		}
	}
	if n < 30 {
		t.Fatalf("the dashboard has %d expressions only", n)
	}
	return panels
}

// fill takes out of panels what shows something, once and for all: a scrape that
// comes too late on a busy machine empties everything for a moment. It is an
// error while there is more.
func (p *prometheus) fill(panels map[string][]string) error {
	var first error
	for title, exprs := range panels {
		panels[title] = slices.DeleteFunc(exprs, func(expr string) bool {
			n, err := p.series(expr)
			if err == nil && n == 0 {
				err = fmt.Errorf("the panel %s is empty: %s", title, expr)
			}
			first = cmp.Or(first, err)
			return err == nil
		})
	}
	return first
}

// metricsAreThoseOfTheDocument compares names and types in docs/observability.md
// with what the agent at url exposes.
func metricsAreThoseOfTheDocument(t *testing.T, url string) {
	t.Helper()
	document, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(perennial_[a-z0-9_]+)` \\| (\\w+) \\|").FindAllStringSubmatch(section, -1) {
		if listed[m[1]] != "" {
			t.Errorf("docs/observability.md lists %s twice", m[1])
		}
		listed[m[1]] = m[2]
	}
	exposed := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (perennial_[a-z0-9_]+) (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		exposed[m[1]] = m[2]
		if listed[m[1]] != m[2] {
			t.Errorf("%s is a %s: docs/observability.md has it as %q", m[1], m[2], listed[m[1]])
		}
	}
	// These have no series before something goes wrong: that they exist has to
	// do.
	existing := make(chan *prom.Desc)
	go func() {
		defer close(existing)
		etcdkv.NewMetrics().Describe(existing)
		rollout.NewMetrics("").Describe(existing) // of an agent that is a controller
	}()
	var declared strings.Builder
	for d := range existing {
		declared.WriteString(d.String())
	}
	for name := range listed {
		if exposed[name] == "" && !strings.Contains(declared.String(), fmt.Sprintf("%q", name)) {
			t.Errorf("docs/observability.md lists %s, which the agent does not expose", name)
		}
	}
	if len(exposed) < 40 {
		t.Errorf("the agent exposes %d metrics only:\n%s", len(exposed), text)
	}
}
