package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// halting is a source whose file gives a few bytes and then none.
type halting struct{}

func (halting) String() string { return "halting" }

func (halting) Open(ctx context.Context, _ string, _ int64) (io.ReadCloser, int64, error) {
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("some"))
		<-ctx.Done()
		_ = w.CloseWithError(ctx.Err())
	}()
	return r, -1, nil
}

func TestReadingThatStallsIsToldOf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told waittest.Log
	h := &watch{w: &told, step: 10 * time.Millisecond, source: "SERVER"}
	end := h.begin(ctx)
	body, _, err := watched{halting{}, h}.Open(ctx, "blobs/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, body)
		done <- err
	}()
	waittest.Until(t, "the silence is told", func() bool { return told.Has("no bytes for 0 s from SERVER (blobs/x)") })
	cancel()
	if err := <-done; err == nil {
		t.Error("the reading ended without an error")
	}
	end()
}

// A server that fails at first and is slow then leaves nobody in the dark.
func TestPullAndVerifyTellWhatTheyWaitFor(t *testing.T) {
	s := newShelf(t, "1.0.0")
	var asked atomic.Int64
	files := http.FileServer(http.Dir(s.repo))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	s.repo = server.URL
	r := s.ask("pull", "--cache", s.dir+"/cache", "1.0.0").ok(t)
	if !strings.Contains(r.stderr, "503") || !strings.Contains(r.stderr, "tried again in 0.") || !strings.Contains(r.stderr, "downloading 100 %") {
		t.Errorf("pull says\n%s", r.stderr)
	}
	asked.Store(0)
	if r := s.ask("verify").ok(t); !strings.Contains(r.stderr, "503") {
		t.Errorf("verify says\n%s", r.stderr)
	}
}
