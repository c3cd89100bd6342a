package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/boundedio"
)

// minProgress is what a connection must have delivered for the count of
// failures to start again, so that a server that cuts every connection after
// a byte cannot keep a transfer going for ever.
const minProgress = 64 << 10

// httpReader reads one file over as many connections as it takes.
type httpReader struct {
	source *HTTP
	ctx    context.Context
	url    *url.URL
	header http.Header // beside what every request has; may be nil
	fresh  bool

	offset int64 // of the next byte that Read returns
	total  int64 // size of the file; -1 while unknown
	etag   string

	body     io.ReadCloser
	watchdog *watchdog
	failures int
	progress int64 // bytes since the last failure
	end      error // what every Read returns from now on
}

// Read implements io.Reader.
func (r *httpReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.end != nil {
			return 0, r.end
		}
		if r.total >= 0 && r.offset >= r.total {
			return 0, io.EOF
		}
		// What has arrived already is read without a look at the context.
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		// A server that promised n bytes gets no chance to add to them.
		if left := r.total - r.offset; r.total >= 0 && int64(len(p)) > left {
			p = p[:left]
		}
		n, err := r.watchdog.read(r.body, p)
		r.offset += int64(n)
		r.progress += int64(n)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			if r.total < 0 {
				return 0, io.EOF
			}
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			continue
		}
		if err := r.connect(fmt.Errorf("GET %s broke off at byte %d: %w", r.url.Redacted(), r.offset, err)); err != nil {
			r.end = err
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (r *httpReader) Close() error {
	r.end = fmt.Errorf("GET %s: %w", r.url.Redacted(), fs.ErrClosed)
	return r.disconnect()
}

func (r *httpReader) disconnect() error {
	if r.body == nil {
		return nil
	}
	r.watchdog.stop()
	err := r.body.Close()
	r.body = nil
	return err
}

// connect replaces the connection, the first one (cause is nil) or one that
// failed. It gives up when the error is final or attempts have run out.
func (r *httpReader) connect(cause error) error {
	if err := r.disconnect(); err != nil && cause == nil {
		return err
	}
	if r.progress >= minProgress {
		r.failures = 0
	}
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		if cause != nil {
			r.failures++
			r.progress = 0
			if r.failures >= r.source.attempts {
				return fmt.Errorf("%w (given up after %d attempts)", cause, r.failures)
			}
			pause := r.source.patience(cause, wait.Next())
			if r.source.retry != nil && r.ctx.Err() == nil {
				r.source.retry(cause, pause)
			}
			if err := backoff.Sleep(r.ctx, pause); err != nil {
				return fmt.Errorf("%w: %w", err, cause)
			}
		}
		cause = r.attempt()
		if final, ok := errors.AsType[permanent](cause); ok {
			return final.error
		}
		if cause == nil {
			return nil
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
	}
}

// attempt makes one connection and positions it at r.offset.
func (r *httpReader) attempt() error {
	ctx, w := newWatchdog(r.ctx, r.source.stall, r.source.window)
	var resp *http.Response
	err := w.during(func() (err error) {
		resp, err = r.source.request(ctx, r.url, r.header, r.offset, r.fresh) //nolint:bodyclose // closed below, or by Close
		return err
	})
	if err != nil {
		w.stop()
		return err
	}
	if err := r.accept(resp, w); err != nil {
		w.stop()
		return errors.Join(err, resp.Body.Close())
	}
	r.watchdog = w
	return nil
}

// accept decides where in the file the response starts and skips what the
// reader has already.
func (r *httpReader) accept(resp *http.Response, w *watchdog) error {
	if err := checkStatus(resp, r.url); err != nil {
		return err
	}
	start, total, err := responseRange(resp)
	if err != nil {
		return permanent{fmt.Errorf("GET %s: %w", r.url.Redacted(), err)}
	}
	etag := resp.Header.Get("ETag")
	if (r.total >= 0 && total >= 0 && r.total != total) || (r.etag != "" && etag != "" && etag != r.etag) {
		return permanent{fmt.Errorf("%s changed on the server while it was read: try again", r.url.Redacted())}
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		if total != r.offset {
			return permanent{fmt.Errorf("GET %s: byte %d was asked for, the server has %d", r.url.Redacted(), r.offset, total)}
		}
		start = r.offset
	}
	if start > r.offset {
		return permanent{fmt.Errorf("GET %s: byte %d was asked for, the server answered from byte %d", r.url.Redacted(), r.offset, start)}
	}
	if total >= 0 {
		r.total = total
	}
	if r.etag == "" {
		r.etag = etag
	}
	if err := skip(w, resp.Body, r.offset-start); err != nil {
		return fmt.Errorf("GET %s: %w", r.url.Redacted(), err)
	}
	r.body = resp.Body
	return nil
}

// skip reads n bytes for nothing, from a server that ignores ranges.
func skip(w *watchdog, body io.Reader, n int64) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		got, err := w.read(body, buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if n > 0 && err != nil {
			return boundedio.NoEOF(err)
		}
	}
	return nil
}

// responseRange returns the offset of the response's first byte and the size
// of the whole file, -1 where the server does not say.
func responseRange(resp *http.Response) (start, total int64, err error) {
	if resp.StatusCode == http.StatusOK {
		return 0, resp.ContentLength, nil
	}
	header := resp.Header.Get("Content-Range")
	span, size, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	if !ok {
		return 0, 0, fmt.Errorf("the server answered %s with Content-Range %.80q", resp.Status, header)
	}
	total = -1
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil || total < 0 {
			return 0, 0, fmt.Errorf("the server answered %s with Content-Range %.80q", resp.Status, header)
		}
	}
	if span == "*" && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return 0, total, nil
	}
	first, _, _ := strings.Cut(span, "-")
	if start, err = strconv.ParseInt(first, 10, 64); err != nil || start < 0 {
		return 0, 0, fmt.Errorf("the server answered %s with Content-Range %.80q", resp.Status, header)
	}
	return start, total, nil
}
