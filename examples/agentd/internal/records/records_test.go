package records

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/examples/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type service struct {
	*httptest.Server
	dir   string
	spool *spool.Spool
}

func start(t *testing.T, timeout time.Duration) service {
	t.Helper()
	dir := t.TempDir()
	s, err := spool.New(spool.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Spool:       s,
		Info:        func() any { return map[string]string{"id": "a1"} },
		ReadTimeout: func() time.Duration { return timeout },
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return service{srv, dir, s}
}

func (s service) post(t *testing.T, body io.Reader, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/records", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func (s service) stored(t *testing.T) int64 {
	t.Helper()
	sum, err := spool.Read(s.dir, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return sum.Records
}

func TestAcceptedRecordsAreOnDiskBeforeTheAnswer(t *testing.T) {
	s := start(t, 0)
	status, answer := s.post(t, strings.NewReader("{\"a\":1}\n{\"a\":2}\n"))
	if status != http.StatusAccepted || answer != "{\"accepted\":2}\n" {
		t.Errorf("answer %d %s", status, answer)
	}
	if n := s.stored(t); n != 2 {
		t.Errorf("%d records on disk, want 2", n)
	}
}

func TestRefusedRequestStoresNothingOfItself(t *testing.T) {
	s := start(t, 0)
	long := `{"x":"` + strings.Repeat("y", spool.MaxRecordBytes) + `"}`
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
		says   string
		line   int
	}{
		"bad line":      {"{}\n{}\nnope\n{}\n", nil, 400, "line 3", 3},
		"array":         {"[{}]\n", nil, 400, "line 1", 1},
		"blank line":    {"{}\n\n{}\n", nil, 400, "line 2 is empty", 2},
		"empty body":    {"", nil, 400, "empty body", 0},
		"line too long": {"{}\n" + long + "\n", nil, 400, "line 2", 2},
		"body too long": {strings.Repeat("{}\n", MaxBodyBytes/3+1), nil, 413, "8388608", 0},
		"compressed":    {"{}", []string{"Content-Encoding", "gzip"}, 415, "gzip", 0},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := s.post(t, strings.NewReader(c.body), c.header...)
			var got struct {
				Error string
				Line  int
			}
			if err := json.Unmarshal([]byte(answer), &got); err != nil {
				t.Fatalf("answer %d %q is no JSON: %v", status, answer, err)
			}
			if status != c.status || got.Line != c.line || !strings.Contains(got.Error, c.says) {
				t.Errorf("answer %d %+v, want %d, line %d, with %q", status, got, c.status, c.line, c.says)
			}
			if n := s.stored(t); n != 0 {
				t.Errorf("%d records on disk, want none", n)
			}
		})
	}
}

func TestBodyOfUnknownLengthIsBoundedToo(t *testing.T) {
	s := start(t, 0)
	endless := struct{ io.Reader }{strings.NewReader(strings.Repeat("{}\n", MaxBodyBytes/3+1))}
	if status, answer := s.post(t, endless); status != 413 {
		t.Errorf("answer %d %s, want 413", status, answer)
	}
	fits := struct{ io.Reader }{strings.NewReader(strings.Repeat("{}\n", 1000))}
	if status, answer := s.post(t, fits); status != 202 || !strings.Contains(answer, "1000") {
		t.Errorf("answer %d %s, want 202", status, answer)
	}
}

func TestMemoryOfRequestsInProgressIsGivenBack(t *testing.T) {
	s := start(t, 0)
	h := &handler{Config: Config{Spool: s.spool, Logger: slog.New(slog.DiscardHandler)}}
	for _, body := range []string{"{}\n", "bad", "", strings.Repeat("{}\n", 100000), strings.Repeat("{}\n", MaxBodyBytes/3+1)} {
		w := httptest.NewRecorder()
		h.post(w, httptest.NewRequest(http.MethodPost, "/v1/records", struct{ io.Reader }{strings.NewReader(body)}))
		if n := h.pending.Load(); n != 0 {
			t.Errorf("after %d: %d bytes are still held", w.Code, n)
		}
	}
	h.pending.Store(MaxPendingBytes)
	w := httptest.NewRecorder()
	h.post(w, httptest.NewRequest(http.MethodPost, "/v1/records", strings.NewReader("{}")))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer %d under pressure, want 503 with Retry-After", w.Code)
	}
}

// TestSlowClientIsCutOffAfterTheReadTimeout: whatever it asks for, since
// nothing else bounds how long net/http reads what a handler left.
func TestSlowClientIsCutOffAfterTheReadTimeout(t *testing.T) {
	s := start(t, 50*time.Millisecond)
	for request, want := range map[string]string{
		"POST /v1/records HTTP/1.1\r\n":                           "408",
		"POST /v1/records HTTP/1.1\r\nContent-Encoding: gzip\r\n": "415",
		"POST /nothing HTTP/1.1\r\n":                              "404",
		"GET /v1/info HTTP/1.1\r\n":                               "200",
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, request+"Host: x\r\nContent-Length: 100\r\n\r\n{}\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%q: %v", request, err)
		}
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 "+want+" ")) {
			t.Errorf("%q: answer %q, want %s", request, answer, want)
		}
	}
}

func TestFailingSpoolIsNeverAcknowledged(t *testing.T) {
	s := start(t, 0)
	if err := s.spool.Close(); err != nil {
		t.Fatal(err)
	}
	if status, answer := s.post(t, strings.NewReader("{}")); status != 503 {
		t.Errorf("answer %d %s, want 503", status, answer)
	}
}

func TestInfoAndUnknownRoutes(t *testing.T) {
	s := start(t, 0)
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/v1/info", 200, `{"id":"a1"}`},
		{"GET", "/v1/records", 405, ""},
		{"POST", "/v1/info", 405, ""},
		{"GET", "/", 404, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != c.status || !strings.Contains(string(answer), c.says) {
			t.Errorf("%s %s: %d %s (%v), want %d %s", c.method, c.path, res.StatusCode, answer, err, c.status, c.says)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefusesMissingParts(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New accepted an empty Config")
	}
}
