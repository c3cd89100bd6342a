package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// adminClient are the flags of commands that ask an agent on its admin
// listener.
type adminClient struct {
	address       string
	ca, cert, key string
	tokenFile     string
	timeout       time.Duration
}

func (a *adminClient) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.address, "address", "127.0.0.1:7071", "`address` of the agent's admin listener: host:port, https://host:port or unix:/path")
	f.StringVar(&a.ca, "ca", "", "PEM `file` of the authorities that signed the listener's certificate; default the system's")
	f.StringVar(&a.cert, "cert", "", "PEM `file` of the client certificate to show")
	f.StringVar(&a.key, "key", "", "PEM `file` of that certificate's key")
	f.StringVar(&a.tokenFile, "token-file", "", "`file` with the bearer token to show, mode 0600")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for the answer")
	for _, flag := range []string{"address", "ca", "cert", "key", "token-file", "timeout"} {
		noVariable(cmd, flag)
	}
}

// site is the base URL, and how to get there.
func (a *adminClient) site() (base string, t *http.Transport, err error) {
	t = &http.Transport{DisableKeepAlives: true, Proxy: nil}
	if path, ok := strings.CutPrefix(a.address, "unix:"); ok {
		if path == "" {
			return "", nil, usagef("--address: want a path after unix:")
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return "http://localhost", t, nil
	}
	base = a.address
	if !strings.Contains(base, "://") {
		scheme := "http://"
		if a.ca != "" || a.cert != "" {
			scheme = "https://"
		}
		base = scheme + base
	}
	secure := strings.HasPrefix(base, "https://")
	host := strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
	if _, _, err := net.SplitHostPort(host); err != nil {
		return "", nil, usagef("--address: want host:port, https://host:port or unix:/path, found %q", a.address)
	}
	if !secure && (a.ca != "" || a.cert != "") {
		return "", nil, usagef("--ca and --cert are of no use with http://: use https://")
	}
	if !secure && a.tokenFile != "" && !loopback(host) {
		return "", nil, usagef("--token-file: the token would go to %s in plain text: use https://", host)
	}
	if secure {
		t.TLSClientConfig, err = a.tls()
	}
	return base, t, err
}

func loopback(hostPort string) bool {
	host, _, _ := net.SplitHostPort(hostPort)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *adminClient) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s holds no certificate: give one or more in PEM form", a.ca)
		}
	}
	if (a.cert == "") != (a.key == "") {
		return nil, usagef("--cert and --key belong together: give both or none")
	}
	if a.cert != "" {
		pair, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// get asks for path, such as /v1/status, and hands the body of a good answer
// to use. What the agent says to a bad one becomes the error.
func (a *adminClient) get(ctx context.Context, path string, use func(io.Reader) error) (err error) {
	if a.timeout <= 0 {
		return usagef("--timeout: want a positive duration, found %v", a.timeout)
	}
	base, transport, err := a.site()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, base+path, nil)
	if err != nil {
		return err
	}
	if a.tokenFile != "" {
		token, err := readToken(a.tokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{
		Transport: transport,
		// The listener has none; whoever sends one is not to get the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	late := func() bool { return errors.Is(limited.Err(), context.DeadlineExceeded) && ctx.Err() == nil }
	res, err := client.Do(req)
	if err != nil {
		if late() {
			return fmt.Errorf("want an answer from the agent at %s within %v, found none: check that it runs, or give it longer with --timeout", a.address, a.timeout)
		}
		return fmt.Errorf("ask the agent at %s: %w; check that it runs and that --address is its --admin", a.address, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, maxSaid))
		return fmt.Errorf("the agent at %s answers %s to %s: %s%s", a.address, res.Status, path, bytes.TrimSpace(said), advice(res.StatusCode, base))
	}
	if err = use(res.Body); err != nil && late() {
		return fmt.Errorf("want the whole answer of the agent at %s within %v, found a part of it: give it longer with --timeout", a.address, a.timeout)
	}
	return err
}

// advice is what to do about an answer with code of base.
func advice(code int, base string) string {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return "; show what its --admin-allow gives that role to, by --cert and --key or --token-file, or have it listen on a Unix socket (agentd run --admin unix:/path), where root and its user may do all"
	case code == http.StatusBadRequest && strings.HasPrefix(base, "http://"):
		return "; if it is served with TLS, ask https://" + strings.TrimPrefix(base, "http://")
	}
	return ""
}

// maxSaid bounds what is shown of an answer that is no good one.
const maxSaid = 2 << 10

const maxTokenFile = 8 << 10

func readToken(path string) (token string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := forOwnerAlone(f); err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" || len(data) > maxTokenFile || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("--token-file: want one token of at most %d bytes in %s", maxTokenFile, path)
	}
	return text, nil
}
