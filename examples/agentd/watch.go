package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// watchStep is how often a command that reads for long says how far it is, or
// that nothing comes.
const watchStep = 5 * time.Second

// watch tells w what becomes of the reading of a repository. It is safe for
// concurrent use.
type watch struct {
	w      io.Writer
	step   time.Duration // default watchStep
	source string        // without credentials

	mu      sync.Mutex
	bytes   int64
	last    time.Time // when something came, or was first waited for
	waiting int       // how many calls wait for the source
	path    string    // what was asked for last
}

// begin starts telling, until the returned function is called.
func (h *watch) begin(ctx context.Context) (end func()) {
	step := h.step
	if step == 0 {
		step = watchStep
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(step)
		defer tick.Stop()
		var told int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				told = h.tell(step, told)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// tell returns how many bytes there were.
func (h *watch) tell(step time.Duration, told int64) int64 {
	h.mu.Lock()
	n, path, silence := h.bytes, h.path, time.Since(h.last)
	stalled := h.waiting > 0 && silence >= step-step/10 // a tick may come early
	h.mu.Unlock()
	switch {
	case stalled:
		say(h.w, "no bytes for %.0f s from %s (%s)", silence.Seconds(), h.source, path)
	case n > told:
		say(h.w, "read %s so far (%s)", mebibytes(n), path)
	}
	return n
}

// retry is release.HTTPConfig.Retry.
func (h *watch) retry(cause error, pause time.Duration) {
	say(h.w, "tried again in %.1f s: %s", pause.Seconds(), oneLine(cause.Error()))
}

func (h *watch) waits(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if path != "" {
		h.path = path
	}
	if h.waiting++; h.waiting == 1 {
		h.last = time.Now()
	}
}

func (h *watch) got(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	if h.bytes += int64(n); n > 0 {
		h.last = time.Now()
	}
}

// watched is a source that is watched.
type watched struct {
	release.Source
	watch *watch
}

// Unwrap tells what is watched.
func (s watched) Unwrap() release.Source { return s.Source }

// Open implements release.Source.
func (s watched) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	s.watch.waits(path)
	body, total, err := s.Source.Open(ctx, path, offset)
	s.watch.got(0)
	if err != nil {
		return nil, 0, err
	}
	return &watchedBody{body, s.watch}, total, nil
}

type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.waits("")
	n, err := b.ReadCloser.Read(p)
	b.watch.got(n)
	return n, err
}
