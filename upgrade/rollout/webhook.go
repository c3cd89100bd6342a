package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/secretfile"
)

const (
	// webhookAttempts is how often a webhook is told of a record in vain.
	webhookAttempts       = 5
	defaultWebhookTimeout = 10 * time.Second
	maxWebhooks           = 16
	// maxAuthorization bounds a file with the header, in bytes.
	maxAuthorization = 8 << 10
)

// Webhook is told of records by HTTP.
type Webhook struct {
	// URL is posted to, with the Record as JSON, and its digest as
	// Idempotency-Key: it may come more than once. An answer of 2xx is taken for
	// good; redirects are not followed.
	URL string
	// Events are those that it is told of; nil = all but EventAdmitted.
	Events []Event
	// Header is sent with it, as for authentication.
	Header map[string]string
	// AuthorizationFile holds the Authorization header in place of one in Header,
	// such as "Bearer TOKEN", in a file of mode 0600 that is read again for each
	// attempt. It needs a URL with https.
	AuthorizationFile string
	// Timeout bounds one attempt; default 10 s. There are up to five, with a pause
	// of up to 10 s between; what is refused with a status of 400 to 499, other
	// than 408 and 429, is not sent again.
	Timeout time.Duration
}

// checkWebhooks validates hooks, and returns a copy with the defaults.
func checkWebhooks(hooks []Webhook) ([]Webhook, error) {
	if len(hooks) > maxWebhooks {
		return nil, fmt.Errorf("%d webhooks: want at most %d", len(hooks), maxWebhooks)
	}
	hooks = slices.Clone(hooks)
	for i := range hooks {
		h := &hooks[i]
		u, err := url.Parse(h.URL)
		switch {
		case err != nil:
			return nil, fmt.Errorf("webhook %d: its URL cannot be read", i+1) // it may hold a secret
		case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			return nil, fmt.Errorf("webhook %d: want a URL with http or https and a host, found scheme %.20q, host %.100q", i+1, u.Scheme, u.Host)
		case h.AuthorizationFile != "" && u.Scheme != "https":
			return nil, fmt.Errorf("webhook %d: its Authorization is sent over https only, found %s: anyone on the way could read it", i+1, u.Scheme)
		case h.Timeout < 0:
			return nil, fmt.Errorf("webhook %d: Timeout %s: want a positive time, or 0 for %s", i+1, h.Timeout, defaultWebhookTimeout)
		case h.Timeout == 0:
			h.Timeout = defaultWebhookTimeout
		}
		if h.AuthorizationFile != "" {
			if _, err := h.authorization(); err != nil {
				return nil, fmt.Errorf("webhook %d: %w", i+1, err)
			}
		}
		h.Header, h.Events = maps.Clone(h.Header), slices.Clone(h.Events)
	}
	return hooks, nil
}

func (h *Webhook) authorization() (string, error) {
	return secretfile.Read("authorization file", h.AuthorizationFile, maxAuthorization)
}

// wants reports whether the webhook is to be told of e.
func (h *Webhook) wants(e Event) bool {
	if h.Events == nil {
		return e != EventAdmitted
	}
	return slices.Contains(h.Events, e)
}

// address is what a log may show of the URL.
func (h *Webhook) address() string {
	if u, err := url.Parse(h.URL); err == nil {
		return u.Host
	}
	return ""
}

// tell sends a record, which is line with this digest, until it is taken or
// given up.
func (h *Webhook) tell(ctx context.Context, client *http.Client, line, digest string, log *slog.Logger) {
	retry := backoff.Backoff{Min: time.Second}
	for i := 1; ; i++ {
		again, err := h.post(ctx, client, line, digest)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !again || i == webhookAttempts {
			log.Warn("a webhook was not told of a rollout", "address", h.address(), "count", i, "error", err)
			return
		}
		if retry.Wait(ctx) != nil {
			return
		}
	}
}

// post sends a record once, and says whether to send it again.
func (h *Webhook) post(ctx context.Context, client *http.Client, line, digest string) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, strings.NewReader(line))
	if err != nil {
		return false, errors.New("its URL cannot be used")
	}
	for key, value := range h.Header {
		req.Header.Set(key, value)
	}
	if h.AuthorizationFile != "" {
		value, err := h.authorization()
		if err != nil {
			return true, err
		}
		req.Header.Set("Authorization", value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", digest)
	code, _, err := fetch(client, req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // without the URL
		}
		return true, err
	}
	switch {
	case code >= 200 && code < 300:
		return false, nil
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return false, fmt.Errorf("it answers with status %d", code)
	}
	return true, fmt.Errorf("it answers with status %d", code)
}
