package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestTokenGoesToNobodyWhoMayNotHaveIt: in plain text, or to where the agent
// is said to have moved.
func TestTokenGoesToNobodyWhoMayNotHaveIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("a.b.c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a.b.c" {
			t.Errorf("the agent gets %q", r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	defer site.Close()
	ask := func(c adminClient) error {
		if c.timeout == 0 {
			c.timeout = 10 * time.Second
		}
		return c.get(t.Context(), "/v1/status", func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
	}
	address := strings.TrimPrefix(site.URL, "http://")
	if err := ask(adminClient{address: address, tokenFile: file}); err == nil || !strings.Contains(err.Error(), "302") || len(seen) > 0 {
		t.Errorf("a redirection gives %v, and %q to whom it leads", err, seen)
	}
	for name, c := range map[string]struct {
		client adminClient
		says   string
	}{
		"plain text":                {adminClient{address: "192.0.2.1:7071", tokenFile: file}, "plain text"},
		"plain text, written out":   {adminClient{address: "http://agent1.example:7071", tokenFile: file}, "plain text"},
		"a certificate without TLS": {adminClient{address: site.URL, cert: "x", key: "y"}, "use https://"},
		"authorities without TLS":   {adminClient{address: site.URL, ca: "x"}, "use https://"},
		"half a pair":               {adminClient{address: "127.0.0.1:1", cert: "x"}, "belong together"},
		"no time at all":            {adminClient{address: address, timeout: -1}, "positive"},
	} {
		err := ask(c.client)
		var usage usageError
		if err == nil || !strings.Contains(err.Error(), c.says) || !errors.As(err, &usage) {
			t.Errorf("%s: %v, want a wrong usage that says %q", name, err, c.says)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ask(adminClient{address: address, tokenFile: file}); runtime.GOOS != "windows" && (err == nil || !strings.Contains(err.Error(), "chmod 600")) {
		t.Errorf("a token that others can read gives %v", err)
	}
}

// TestAnswerThatDoesNotEndInTimeSaysWhatToDo: a diagnosis takes up to a minute.
func TestAnswerThatDoesNotEndInTimeSaysWhatToDo(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = fmt.Fprintln(w, "a part")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	defer site.Close()
	c := adminClient{address: strings.TrimPrefix(site.URL, "http://"), timeout: time.Second}
	for _, path := range []string{"/begun", "/silent"} {
		err := c.get(t.Context(), path, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		if err == nil || !strings.Contains(err.Error(), "longer with --timeout") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
