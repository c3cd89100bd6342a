package release

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// HTTPConfig configures a repository on a web server. Only URL is required.
type HTTPConfig struct {
	// URL is the address of the directory that holds index.json. A user and
	// password in it are sent as basic authentication, and never shown.
	URL string
	// TLS is the client's TLS configuration; nil means the system's roots.
	TLS *tls.Config
	// CAFile holds the PEM certificates of the authorities that may vouch
	// for an https server, in place of the system's.
	CAFile string
	// CertFile and KeyFile hold the client certificate, with its chain, and
	// its private key, in PEM form. Others than its owner must not be able to
	// read the key: mode 0600. They are shown to the host of URL only.
	CertFile, KeyFile string
	// AuthFile holds the value of the Authorization header in one line, such
	// as "Bearer TOKEN", mode 0600. It is sent over https and to the host
	// and port of URL only, whatever the server redirects to, and is never
	// shown.
	//
	// All four files are read by NewHTTP, to find mistakes early, and again
	// for each connection, so that they can be replaced at any time.
	AuthFile string
	// StallTimeout is how long a connection may take to answer, and then to
	// deliver StallTimeout × MinRate bytes, before it is given up and
	// resumed on a new one; default 30 s.
	StallTimeout time.Duration
	// MinRate is the rate in bytes a second below which a connection counts
	// as stalled; default 512.
	MinRate int64
	// Attempts is how many connections in a row may fail without progress;
	// default 5. Between them lie pauses that grow from 0.1 s to 5 s, each
	// of a random length in the half below that bound.
	Attempts int
	// MaxRetryAfter bounds what a server may add to a pause by a Retry-After
	// header; default 1 min.
	MaxRetryAfter time.Duration
	// Retry is told why a connection failed and how long the pause before the
	// next one is, 0 to MaxRetryAfter and 5 s. It must be safe for concurrent
	// use, and quick. May be nil.
	Retry func(cause error, pause time.Duration)
	// Client sends the requests, for servers that want more than a GET, such
	// as an exchange of tokens; default NewHTTPClient(TLS), and CAFile,
	// CertFile, KeyFile and AuthFile are for that one alone. It must not
	// repeat requests, and not follow redirects that NewHTTPClient's does not.
	// An error of it that wraps fs.ErrPermission is final.
	Client Doer
}

// Doer is the one method of http.Client that HTTP uses.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// HTTP reads a repository from a web server that serves plain files. It
// resumes broken transfers where the server allows ranges, and skips what it
// has where it does not. Proxies are taken from the environment
// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), as they were at the first request. It
// follows redirects, but not from https to http.
//
// The server and everything between is untrusted; TLS is welcome and not
// needed for integrity.
type HTTP struct {
	base     *url.URL
	client   Doer
	stall    time.Duration
	window   int64
	attempts int

	maxRetryAfter time.Duration
	retry         func(cause error, pause time.Duration)
}

const maxRedirects = 5

// base is the parsed URL.
func (cfg HTTPConfig) base() (*url.URL, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		// url.Error would repeat the address with its password.
		return nil, errors.New("repository URL cannot be parsed: want http://host/path or https://host/path")
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("repository URL %s: want http://host/path or https://host/path, without query or fragment", base.Redacted())
	}
	return base, nil
}

// NewHTTP checks the configuration and that its files can be read. It
// connects to nothing.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	base, err := cfg.base()
	if err != nil {
		return nil, err
	}
	if cfg.StallTimeout < 0 || cfg.MinRate < 0 || cfg.Attempts < 0 || cfg.MaxRetryAfter < 0 {
		return nil, errors.New("repository: StallTimeout, MinRate, Attempts and MaxRetryAfter must not be negative")
	}
	access, err := newHTTPAccess(cfg, base)
	if err != nil {
		return nil, err
	}
	stall := cmp.Or(cfg.StallTimeout, 30*time.Second)
	rate := cmp.Or(cfg.MinRate, 512)
	client := cfg.Client
	if client == nil {
		client = &http.Client{Transport: access, CheckRedirect: checkRedirect}
	}
	return &HTTP{
		base:          base,
		stall:         stall,
		window:        max(1, int64(float64(rate)*stall.Seconds())),
		attempts:      cmp.Or(cfg.Attempts, 5),
		maxRetryAfter: cmp.Or(cfg.MaxRetryAfter, time.Minute),
		client:        client,
		retry:         cfg.Retry,
	}, nil
}

// OpenHTTPClient returns NewHTTPClient's, for the host of a URL: with the
// files of the configuration, which are read now and again for each connection
// and shown to that host alone, as HTTPConfig says. It is for other protocols
// over the same servers. What is no URL, TLS or file of cfg is not used.
func OpenHTTPClient(cfg HTTPConfig) (*http.Client, error) {
	base, err := cfg.base()
	if err != nil {
		return nil, err
	}
	access, err := newHTTPAccess(cfg, base)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: access, CheckRedirect: checkRedirect}, nil
}

// NewHTTPClient returns the client that HTTP uses when it is given none:
// proxies from the environment, few redirects and none from https to http,
// no decompression. A nil configuration means the system's roots.
func NewHTTPClient(cfg *tls.Config) *http.Client {
	return &http.Client{
		Transport:     newTransport(cfg.Clone()),
		CheckRedirect: checkRedirect,
	}
}

var errRedirect = errors.New("redirect refused")

func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return fmt.Errorf("%w: from %s to scheme %q", errRedirect, from.Redacted(), req.URL.Scheme)
	case from.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: from https to http (%s): let the server redirect to https", errRedirect, req.URL.Redacted())
	}
	return nil
}

// String returns the URL without its password.
func (h *HTTP) String() string { return h.base.Redacted() }

// Open implements Source.
func (h *HTTP) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	if err := checkPath(path); err != nil {
		return nil, 0, err
	}
	if offset < 0 {
		return nil, 0, fmt.Errorf("%s: offset %d is negative", path, offset)
	}
	r := &httpReader{source: h, ctx: ctx, url: h.base.JoinPath(path), offset: offset, total: -1}
	// The index and its signature change in place; a cache on the way must
	// ask the server. What is named by its digest never changes.
	r.fresh = !strings.Contains(path, "sha256/")
	return r.open()
}

// OpenURL reads what u names with further headers, which may be nil, as Open
// reads a file of the repository: resumed, tried again, and watched for
// stalls.
func (h *HTTP) OpenURL(ctx context.Context, u *url.URL, header http.Header, offset int64) (io.ReadCloser, int64, error) {
	r := &httpReader{source: h, ctx: ctx, url: u, header: header, fresh: !strings.Contains(u.Path, "/sha256:"), offset: offset, total: -1}
	return r.open()
}

func (r *httpReader) open() (io.ReadCloser, int64, error) {
	if err := r.connect(nil); err != nil {
		return nil, 0, err
	}
	return r, r.total, nil
}

// request sends one GET from offset on. A server that refuses the range
// without saying how long the file is (which a range past its end has it do)
// does not know this form of ranges: it is asked for the whole.
func (h *HTTP) request(ctx context.Context, u *url.URL, header http.Header, offset int64, fresh bool) (*http.Response, error) {
	resp, err := h.get(ctx, u, header, offset, fresh)
	if err != nil || offset == 0 || resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || resp.Header.Get("Content-Range") != "" {
		return resp, err
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	return h.get(ctx, u, header, 0, fresh)
}

func (h *HTTP) get(ctx context.Context, u *url.URL, header http.Header, offset int64, fresh bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, permanent{err}
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "perennial")
	if fresh {
		req.Header.Set("Cache-Control", "no-cache")
	}
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := h.client.Do(req)
	if errors.Is(err, errRedirect) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errTransport) {
		return nil, permanent{err}
	}
	return resp, err
}

// permanent marks an error that another attempt cannot mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// checkStatus sorts responses into usable, worth another attempt, and final.
func checkStatus(resp *http.Response, u *url.URL) error {
	code := resp.StatusCode
	err := fmt.Errorf("GET %s: the server answered %s", u.Redacted(), resp.Status)
	switch {
	case code == http.StatusOK, code == http.StatusPartialContent, code == http.StatusRequestedRangeNotSatisfiable:
		if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			return permanent{fmt.Errorf("GET %s: the server answered with content encoding %q, which was not asked for: turn it off for this path", u.Redacted(), enc)}
		}
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return permanent{fmt.Errorf("%w: %w", err, fs.ErrNotExist)}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return permanent{fmt.Errorf("%w: %w: give credentials that may read it: AuthFile (--repo-auth-file), or a user and password in the address", err, fs.ErrPermission)}
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return busy{err, retryAfter(resp, time.Now())}
	}
	return permanent{err}
}
