package release

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// busy is a server's answer that it will do later, and perhaps when.
type busy struct {
	error
	after time.Duration
}

func (b busy) Unwrap() error { return b.error }

// retryAfter reads the header in both of its forms; 0 without a usable one.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// patience is how long to wait before the next attempt: what the server asks
// for, up to the bound, and the back-off with its jitter on top, so that a
// fleet that was put off together does not return together.
func (h *HTTP) patience(cause error, backoff time.Duration) time.Duration {
	if b, ok := errors.AsType[busy](cause); ok {
		backoff += min(b.after, h.maxRetryAfter)
	}
	return backoff
}
