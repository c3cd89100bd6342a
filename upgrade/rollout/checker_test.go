package rollout

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// servePrometheus is a real one.
func servePrometheus(t *testing.T) (url string) {
	t.Helper()
	program := peertest.Find(t, "prometheus", "debian")
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &waittest.Log{}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := regexp.MustCompile(`address=(127\.0\.0\.1:[1-9]\d*)`)
	waittest.Until(t, "Prometheus listens", func() bool { return address.MatchString(log.String()) })
	url = "http://" + address.FindStringSubmatch(log.String())[1]
	waittest.Until(t, "Prometheus is ready", func() bool {
		res, err := newClient().Get(url + "/-/ready")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	return url
}

func TestAnswersOfARealPrometheusAreUnderstood(t *testing.T) {
	t.Parallel()
	url := servePrometheus(t)
	all := checkers(nil)
	for query, want := range map[string]Verdict{
		"vector(1)":            Pass,
		"1":                    Pass,
		"vector(2) > 1":        Pass,
		"vector(2) > bool 3":   Fail,
		"vector(0)":            Fail,
		"vector(0) / 0":        Fail,
		"0":                    Fail,
		"vector(2) > 3":        Inconclusive,
		"no_such_metric":       Inconclusive,
		"no_such_metric[5m]":   Inconclusive, // a matrix says nothing
		`"text"`:               Inconclusive,
		"this is no query (((": Inconclusive,
	} {
		r := ask(t.Context(), all["prometheus"], Check{Kind: "prometheus", URL: url + "/", Query: query, Attempts: 1}, nil)
		if r.Verdict != want || r.Detail == "" || r.At.IsZero() {
			t.Errorf("%s: want %s, got %+v", query, want, r)
		}
	}
}

func TestAnswerThatIsNoneOfPrometheusIsNoVerdict(t *testing.T) {
	for _, body := range []string{
		"", "<html>", "[]", `{}`, `{"status":"error","error":"x"}`,
		`{"status":"success","data":{"resultType":"vector","result":{}}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{}]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`,
	} {
		if v, _, err := parseProm(http.StatusOK, []byte(body)); err == nil {
			t.Errorf("%s: %s", body, v)
		}
	}
	if v, _, err := parseProm(http.StatusBadGateway, []byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`)); err == nil {
		t.Errorf("with status 502: %s", v)
	}
}

func FuzzPrometheusAnswer(f *testing.F) {
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"NaN"]}]}}`))
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		switch v, why, err := parseProm(code, body); {
		case err != nil && v != "":
			t.Errorf("a verdict %s beside the error %v", v, err)
		case err == nil && (v != Pass && v != Fail && v != Inconclusive || why == "" || code != http.StatusOK):
			t.Errorf("%s %q of %d %q", v, why, code, body)
		}
	})
}

// TestWhoIsAskedCannotHoldUpOrMisleadARollout whatever is answered.
func TestWhoIsAskedCannotHoldUpOrMisleadARollout(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = io.WriteString(w, "all\nis \x1b[31mwell")
		case "/bad":
			http.Error(w, "7 errors", http.StatusInternalServerError)
		case "/absent":
			http.NotFound(w, r)
		case "/away":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/elsewhere":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/endless":
			for range 3 * maxAnswer / 1024 {
				_, _ = w.Write(make([]byte, 1024))
			}
		case "/silent":
			<-release
		}
	}))
	defer server.Close()
	defer close(release)
	all := checkers(nil)
	for path, want := range map[string]struct {
		verdict Verdict
		detail  string
	}{
		"/good": {Pass, "status 200 all is"}, "/bad": {Fail, "status 500 7 errors"}, "/absent": {Fail, "status 404"},
		"/away": {Inconclusive, "status 503"}, "/elsewhere": {Inconclusive, "status 302"},
		"/endless": {Inconclusive, "too large"}, "/silent": {Inconclusive, "deadline"},
	} {
		r := ask(t.Context(), all["http"], Check{Kind: "http", URL: server.URL + path, Timeout: 0.5, Attempts: 1}, nil)
		if r.Verdict != want.verdict || !strings.Contains(r.Detail, want.detail) || len(r.Detail) > maxDetail || strings.ContainsAny(r.Detail, "\x1b\n") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// answers are given one after the other.
type answers struct {
	n    atomic.Int64
	give []any // a Verdict or an error
}

func (a *answers) Check(ctx context.Context, _ Check, _ *Plan) (Verdict, string, error) {
	if err, ok := a.give[a.n.Add(1)-1].(error); ok {
		return "", "", err
	}
	v, _ := a.give[a.n.Load()-1].(Verdict)
	return v, "because", ctx.Err()
}

func TestErrorOfACheckIsTriedAgainAndThenInconclusive(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, c := range map[string]struct {
		give []any
		want Verdict
	}{
		"an answer at last": {[]any{away, Pass}, Pass},
		"none at all":       {[]any{away, away}, Inconclusive},
		"no verdict":        {[]any{Verdict("perhaps")}, Inconclusive},
		"a failure":         {[]any{Fail}, Fail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &answers{give: c.give}
			r := ask(t.Context(), a, Check{Attempts: 2}, nil)
			if r.Verdict != c.want || int(a.n.Load()) != len(c.give) || r.Detail == "" {
				t.Errorf("%+v after %d questions", r, a.n.Load())
			}
		})
	}
	if r := ask(t.Context(), nil, Check{Kind: "ours"}, nil); r.Verdict != Inconclusive || !strings.Contains(r.Detail, "ours") {
		t.Errorf("of a kind that there is not: %+v", r)
	}
}

// A stage is judged by what was asked about it, and not by answers about the one
// before that come late, nor by those upon which it was paused: resumed, it would pause
// again at once.
func TestLateAnswerIsNotTakenForTheNextStageOrOnceResumed(t *testing.T) {
	for name, next := range map[string]func(*Plan){
		"the next stage": func(p *Plan) { p.Stage, p.StageSince = 1, time.Unix(1, 0) },
		"resumed":        func(p *Plan) { p.Since = time.Unix(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan struct{}, 10)
			late := make(chan struct{})
			first, second := planOf("1.1.0"), planOf("1.1.0")
			next(&second)
			book := newInquiry(map[string]Checker{"ours": checkFunc(func(p *Plan) Verdict {
				if p == &second {
					return Fail
				}
				<-late
				return Pass
			})}, func() { answered <- struct{}{} })
			check := []Check{{Name: "c", Kind: "ours"}}
			book.results(&first)
			book.ask(t.Context(), check, &first)
			book.ask(t.Context(), check, &first) // which is asked once
			if n := len(book.results(&second)); n != 0 {
				t.Errorf("%d answers before any was given", n)
			}
			book.ask(t.Context(), check, &second)
			waittest.Next(t, "the answer about this", answered)
			close(late)
			waittest.Next(t, "that about what was before", answered)
			book.wait()
			if r := book.results(&second)["c"]; r.Verdict != Fail {
				t.Errorf("the answer about this: %+v", r)
			}
			if len(book.results(&first)) != 0 || len(book.asked) != 0 {
				t.Error("what was asked before is kept")
			}
		})
	}
}

type checkFunc func(*Plan) Verdict

func (f checkFunc) Check(_ context.Context, _ Check, p *Plan) (Verdict, string, error) {
	return f(p), "because", nil
}
