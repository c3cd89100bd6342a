package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/boundedio"
)

const (
	// maxAnswer bounds the answer to a check, in bytes, and maxDetail what is told
	// of it.
	maxAnswer = 1 << 20
	maxDetail = 300
	// The kinds of checks that there are without Checkers of one's own.
	kindPrometheus = "prometheus"
	kindHTTP       = "http"
)

// Checker answers checks of one kind.
type Checker interface {
	// Check asks once, until ctx ends, and says why it comes to its verdict, with
	// the figure. An error is no answer: it is asked again, Check.Attempts times in
	// all, and at last inconclusive. It may be called concurrently.
	Check(ctx context.Context, c Check, p *Plan) (v Verdict, why string, err error)
}

// checkers are those of a controller, by kind.
func checkers(own map[string]Checker) map[string]Checker {
	client := newClient()
	all := map[string]Checker{kindPrometheus: prometheusChecker{client}, kindHTTP: httpChecker{client}}
	maps.Copy(all, own)
	return all
}

// newClient follows no redirect: whoever answers is not to choose who is asked.
func newClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask asks c until there is an answer, or Attempts are over.
func ask(ctx context.Context, checker Checker, c Check, p *Plan) CheckResult {
	r := CheckResult{Verdict: Inconclusive, At: time.Now().UTC()}
	if checker == nil {
		r.Detail = fmt.Sprintf("this controller has no checker of kind %q", c.Kind)
		return r
	}
	setDefault(&c.Timeout, DefaultCheckTimeout)
	setDefault(&c.Attempts, DefaultAttempts)
	timeout := c.Timeout.Duration()
	retry := backoff.Backoff{Min: timeout, Max: timeout} // what is asked may just be restarting
	for i := 1; ; i++ {
		limited, cancel := context.WithTimeout(ctx, timeout)
		verdict, why, err := checker.Check(limited, c, p)
		cancel()
		switch {
		case err != nil:
			r.Detail = clip(fmt.Sprintf("no answer in %d attempts: %v", i, err), maxDetail)
		case verdict == Pass, verdict == Fail, verdict == Inconclusive:
			r.Verdict, r.Detail = verdict, clip(why, maxDetail)
			return r
		default:
			r.Detail = clip(fmt.Sprintf("it came to %q: want %s, %s or %s", verdict, Pass, Fail, Inconclusive), maxDetail)
			return r
		}
		if i >= c.Attempts || retry.Wait(ctx) != nil {
			return r
		}
	}
}

// prometheusChecker asks a Prometheus server, see Check.Query.
type prometheusChecker struct{ client *http.Client }

// Check implements Checker.
func (p prometheusChecker) Check(ctx context.Context, c Check, _ *Plan) (Verdict, string, error) {
	form := url.Values{"query": {c.Query}}
	if deadline, ok := ctx.Deadline(); ok {
		form.Set("timeout", fmt.Sprintf("%dms", max(time.Until(deadline).Milliseconds(), 1)))
	}
	address := strings.TrimSuffix(c.URL, "/") + "/api/v1/query"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	code, body, err := fetch(p.client, req)
	if err != nil {
		return "", "", err
	}
	return parseProm(code, body)
}

// promAnswer is what is read of an answer of Prometheus' API.
type promAnswer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// promValue is a time and a value.
type promValue [2]any

// parseProm comes to the verdict of an answer of Prometheus.
func parseProm(code int, body []byte) (Verdict, string, error) {
	var a promAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", "", fmt.Errorf("want an answer of Prometheus, found status %d and %.60q", code, body)
	}
	if a.Status != "success" || code != http.StatusOK {
		return "", "", fmt.Errorf("Prometheus says with status %d: %.200q", code, a.Error)
	}
	var values []promValue
	switch a.Data.ResultType {
	case "vector":
		var vector []struct {
			Value promValue `json:"value"`
		}
		if err := json.Unmarshal(a.Data.Result, &vector); err != nil {
			return "", "", fmt.Errorf("vector of Prometheus: %w", err)
		}
		for _, v := range vector {
			values = append(values, v.Value)
		}
	case "scalar":
		values = make([]promValue, 1)
		if err := json.Unmarshal(a.Data.Result, &values[0]); err != nil {
			return "", "", fmt.Errorf("scalar of Prometheus: %w", err)
		}
	default:
		return "", "", fmt.Errorf("the query gives a %.30q: want one that gives a vector or a scalar", a.Data.ResultType)
	}
	if len(values) == 0 {
		return Inconclusive, "the query gives no data", nil
	}
	for i, v := range values {
		text, _ := v[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return "", "", fmt.Errorf("value of Prometheus: %.60q is no number", text)
		}
		if n == 0 || math.IsNaN(n) {
			return Fail, fmt.Sprintf("value %d of %d is %s", i+1, len(values), text), nil
		}
	}
	first, _ := values[0][1].(string)
	return Pass, fmt.Sprintf("%d values, the first is %.40s", len(values), first), nil
}

// httpChecker asks with GET: 2xx passes, and what else the one that is asked
// says by itself fails.
type httpChecker struct{ client *http.Client }

// Check implements Checker.
func (h httpChecker) Check(ctx context.Context, c Check, _ *Plan) (Verdict, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return "", "", err
	}
	code, body, err := fetch(h.client, req)
	if err != nil {
		return "", "", err
	}
	why := strings.TrimSpace(fmt.Sprintf("status %d %s", code, clip(string(body), maxDetail/2)))
	switch {
	case code >= 200 && code < 300:
		return Pass, why, nil
	case code < 400, code == http.StatusTooManyRequests, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return "", "", errors.New(why) // it is not there, or it is another that is to be asked
	}
	return Fail, why, nil
}

// fetch sends req, and reads a bounded answer.
func fetch(client *http.Client, req *http.Request) (code int, body []byte, err error) {
	req.Header.Set("User-Agent", "perennial")
	res, err := client.Do(req) //nolint:bodyclose // ReadAll does
	if err != nil {
		return 0, nil, err
	}
	body, err = boundedio.ReadAll(res.Body, -1, maxAnswer)
	return res.StatusCode, body, err
}
