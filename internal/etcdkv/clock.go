package etcdkv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Clock compares this host's clock with those of etcd's members. etcd's own
// protocol tells no time. What does is the Date of the answers that a member
// gives to HTTP on its client port; it is in whole seconds, so that two clocks
// are found apart only if they are so by more than a second and the time that
// the answer took.
type Clock struct {
	endpoints []string
	client    *http.Client
	turn      atomic.Uint32
	now       func() time.Time
}

// Offset is what one answer tells: by how much this host's clock is ahead of
// the member's, at least and at most.
type Offset struct {
	Least, Most time.Duration
	Endpoint    string
}

// Apart is how far the two clocks are apart at least: 0 if they may agree.
func (o Offset) Apart() time.Duration { return max(o.Least, -o.Most, 0) }

// Basis says where Apart is from, for people.
func (o Offset) Basis() string {
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	return fmt.Sprintf("ahead of %s by %v to %v, by the Date of its answer", o.Endpoint, round(o.Least), round(o.Most))
}

// NewClock makes a Clock of the members and with the certificates of cfg. It
// connects to nothing.
func NewClock(cfg ClientConfig) (*Clock, error) {
	cfg.Logger, cfg.Metrics = slog.New(slog.DiscardHandler), NewMetrics()
	secure, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	c := &Clock{endpoints: slices.Clone(cfg.Endpoints), now: time.Now}
	transport := &http.Transport{DisableKeepAlives: true} // it is asked once in minutes
	scheme := "http://"
	if secure {
		certs, err := openCertificates(cfg)
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		scheme = "https://"
		transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&tls.Dialer{Config: certs.config()}).DialContext(ctx, network, address)
		}
	}
	for n, e := range c.endpoints {
		if !strings.Contains(e, "://") && !strings.HasPrefix(e, "unix") {
			c.endpoints[n] = scheme + e
		}
	}
	c.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Compare asks one member, the next one at each call.
func (c *Clock) Compare(ctx context.Context) (Offset, error) {
	endpoint := c.endpoints[int(c.turn.Add(1)-1)%len(c.endpoints)]
	o, err := c.compare(ctx, endpoint)
	if err != nil {
		return Offset{}, fmt.Errorf("the clock of %s: want an answer to HTTP with its Date: %w", endpoint, err)
	}
	return o, nil
}

func (c *Clock) compare(ctx context.Context, endpoint string) (Offset, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return Offset{}, fmt.Errorf("%w: it is not an endpoint of http or https", errors.ErrUnsupported)
	}
	// What any client may see, without a question to the cluster.
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.JoinPath("version").String(), nil)
	if err != nil {
		return Offset{}, err
	}
	req.Header.Set("Cache-Control", "no-store")
	// Without Round, a clock that is set meanwhile would not show.
	sent := c.now().Round(0)
	resp, err := c.client.Do(req)
	if err != nil {
		return Offset{}, err
	}
	_ = resp.Body.Close() // it is the answer to a HEAD
	received := c.now().Round(0)
	return offset(sent, received, resp.Header, endpoint)
}

// offset judges an answer: when it was dated, the member's clock showed that
// second, and this host's something from sent to received.
func offset(sent, received time.Time, answer http.Header, endpoint string) (Offset, error) {
	if age := answer.Get("Age"); age != "" {
		return Offset{}, fmt.Errorf("the answer is from a cache, %q seconds old", age)
	}
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return Offset{}, fmt.Errorf("Date %q: %w", answer.Get("Date"), err)
	}
	if received.Before(sent) { // the clock was set back meanwhile
		sent, received = received, sent
	}
	return Offset{Least: sent.Sub(date.Add(time.Second)), Most: received.Sub(date), Endpoint: endpoint}, nil
}
