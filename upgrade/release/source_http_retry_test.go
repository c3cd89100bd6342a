package release

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"soon":                          0,
		"1e9":                           0,
		"99999999999999999999":          0,
		"Wed, 02 Jan 2030 03:05:05 GMT": time.Minute,
		"Wed, 02 Jan 2030 03:03:05 GMT": 0,
	} {
		resp := &http.Response{Header: http.Header{"Retry-After": {header}}}
		if got := retryAfter(resp, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", header, got, want)
		}
	}
}

func TestRetryAfterIsHonouredWithinItsBound(t *testing.T) {
	for name, tt := range map[string]struct {
		header      string
		bound, want time.Duration
	}{
		"shorter than the bound": {"1", time.Minute, time.Second},
		"for ever":               {"2000000000", 300 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var first, second atomic.Int64
			src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if first.CompareAndSwap(0, time.Now().UnixNano()) {
					w.Header().Set("Retry-After", tt.header)
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				second.Store(time.Now().UnixNano())
				_, _ = io.WriteString(w, "good")
			}), HTTPConfig{MaxRetryAfter: tt.bound})
			if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "good" {
				t.Fatalf("%q, %v", got, err)
			}
			if pause := time.Duration(second.Load() - first.Load()); pause < tt.want {
				t.Errorf("asked again after %v, want at least %v", pause, tt.want)
			}
		})
	}
	src := httpSource(t, nil, HTTPConfig{URL: "http://127.0.0.1:1"})
	if got := src.patience(busy{errors.New("503"), 1 << 30 * time.Second}, 5*time.Second); got != time.Minute+5*time.Second {
		t.Errorf("a server can put off an attempt for %v, want a minute and the back-off", got)
	}
}

func TestReaderThatFailedKeepsFailing(t *testing.T) {
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 10))
	}), HTTPConfig{Attempts: 1})
	body, _, err := src.Open(t.Context(), "blobs/sha256/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); err == nil {
		t.Fatal("the cut was not noticed")
	}
	if n, err := body.Read(make([]byte, 10)); n > 0 || err == nil {
		t.Errorf("after a failure: %d bytes, %v", n, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}
