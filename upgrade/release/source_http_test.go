package release

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// httpSource returns a source for a server with this handler, or for the URL
// of the configuration.
func httpSource(t *testing.T, handler http.Handler, cfg HTTPConfig) *HTTP {
	t.Helper()
	if handler != nil {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		cfg.URL = server.URL
	}
	src, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// readFrom reads all of path from offset on.
func readFrom(ctx context.Context, src Source, offset int64) (data []byte, total int64, err error) {
	body, total, err := src.Open(ctx, "blobs/sha256/x", offset)
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(body)
	return data, total, errors.Join(err, body.Close())
}

// cutting serves data but cuts each connection after some bytes.
func cutting(data []byte, after int, ranges bool, connections *atomic.Int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Add(1)
		start := 0
		if header := r.Header.Get("Range"); ranges && header != "" {
			start, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(header, "bytes="), "-"))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)-start))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}
		// Less than announced: the server then drops the connection.
		_, _ = w.Write(data[start:min(start+after, len(data))])
	})
}

func TestBrokenConnectionsAreResumed(t *testing.T) {
	data := content("1.0.0")
	for name, ranges := range map[string]bool{"server with ranges": true, "server without ranges": false} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			after := 70_000 // so that there are more cuts than Attempts
			if !ranges {
				after = len(data) // it must once come to the end
			}
			src := httpSource(t, cutting(data, after, ranges, &connections), HTTPConfig{})
			for _, offset := range []int64{0, 1000} {
				got, total, err := readFrom(t.Context(), src, offset)
				if err != nil || total != int64(len(data)) || !bytes.Equal(got, data[offset:]) {
					t.Errorf("from %d: %d bytes of %d, %v", offset, len(got), total, err)
				}
			}
			if ranges && connections.Load() < 12 {
				t.Errorf("%d connections: nothing was cut", connections.Load())
			}
		})
	}
}

func TestResumeOnServerThatIgnoresRangesSkipsWhatIsThere(t *testing.T) {
	data := content("1.0.0")
	var n atomic.Int32
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if n.Add(1) == 1 {
			_, _ = w.Write(data[:100_000])
			return
		}
		_, _ = w.Write(data)
	}), HTTPConfig{})
	got, _, err := readFrom(t.Context(), src, 0)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v: not the file", len(got), err)
	}
}

func TestServerThatNeverDeliversIsGivenUp(t *testing.T) {
	stall := HTTPConfig{StallTimeout: 100 * time.Millisecond, Attempts: 2}
	hang := func(r *http.Request) { <-r.Context().Done() }
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		cfg     HTTPConfig
		says    string
	}{
		{"never answers", func(_ http.ResponseWriter, r *http.Request) { hang(r) }, stall, "stalled"},
		{"stalls in the body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(make([]byte, 10))
			_ = http.NewResponseController(w).Flush()
			hang(r)
		}, stall, "stalled"},
		{"drips a byte at a time", func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
					_, _ = w.Write([]byte("x"))
					_ = http.NewResponseController(w).Flush()
				}
			}
		}, HTTPConfig{StallTimeout: 200 * time.Millisecond, MinRate: 10_000, Attempts: 2}, "stalled"},
		{"cuts every connection after a byte", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("x"))
		}, HTTPConfig{Attempts: 3}, "given up after 3 attempts"},
		{"cuts ranges after a byte", func(w http.ResponseWriter, r *http.Request) {
			cutting(content("1.0.0"), 1, true, new(atomic.Int32)).ServeHTTP(w, r)
		}, HTTPConfig{Attempts: 3}, "given up after 3 attempts"},
		{"answers 500 for ever", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		}, HTTPConfig{Attempts: 3}, "500 Internal Server Error (given up after 3 attempts)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readFrom(t.Context(), httpSource(t, tt.handler, tt.cfg), 0)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}

func TestServerThatRecoversIsUsed(t *testing.T) {
	for name, code := range map[string]int{"500": 500, "503": 503, "429": 429, "408": 408} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if n.Add(1) < 3 {
					w.WriteHeader(code)
					return
				}
				_, _ = io.WriteString(w, "good")
			}), HTTPConfig{})
			if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "good" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestFinalAnswersAreNotAskedAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    error
		says    string
	}{
		{"404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, fs.ErrNotExist, "404"},
		{"410", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, fs.ErrNotExist, "410"},
		{"401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, fs.ErrPermission, "(--repo-auth-file)"},
		{"403", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, fs.ErrPermission, "(--repo-auth-file)"},
		{"400", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, nil, "400"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil, "204"},
		{"compressed unasked", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(make([]byte, 100))
		}, nil, "content encoding"},
		{"range from elsewhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 500-999/1000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 500))
		}, nil, "answered from byte 500"},
		{"range without where", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
		}, nil, "Content-Range"},
		{"range of a negative size", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/-5")
			w.WriteHeader(http.StatusPartialContent)
		}, nil, "Content-Range"},
		{"offset past the end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */50")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, nil, "the server has 50"},
		{"redirect for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, nil, "more than 5"},
		{"redirect to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, nil, "redirect refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n.Add(1)
				tt.handler(w, r)
			}), HTTPConfig{})
			_, _, err := readFrom(t.Context(), src, 100)
			if err == nil || !strings.Contains(err.Error(), tt.says) || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
			if n.Load() != 1 && !strings.HasPrefix(tt.name, "redirect") {
				t.Errorf("asked %d times", n.Load())
			}
			if n.Load() > maxRedirects+1 {
				t.Errorf("redirected %d times", n.Load())
			}
		})
	}
}

func TestRedirectsAreFollowedButNotToPlainHTTP(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "data") }))
	t.Cleanup(plain.Close)
	var target atomic.Pointer[string]
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/final" {
			_, _ = io.WriteString(w, "data")
			return
		}
		http.Redirect(w, r, *target.Load(), http.StatusFound)
	}))
	t.Cleanup(secure.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	src := httpSource(t, nil, HTTPConfig{URL: secure.URL, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})

	final := secure.URL + "/final"
	target.Store(&final)
	if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "data" {
		t.Errorf("redirect within https: %q, %v", got, err)
	}
	target.Store(&plain.URL)
	if _, _, err := readFrom(t.Context(), src, 0); err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("redirect from https to http: %v, want it refused", err)
	}
	from := httpSource(t, http.RedirectHandler(final, http.StatusFound), HTTPConfig{TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})
	if got, _, err := readFrom(t.Context(), from, 0); err != nil || string(got) != "data" {
		t.Errorf("redirect from http to https: %q, %v", got, err)
	}
}

func TestFileThatChangesWhileItIsReadIsNotMixed(t *testing.T) {
	var n atomic.Int32
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := strconv.Itoa(int(n.Add(1)))
		w.Header().Set("ETag", `"`+version+`"`)
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, strings.Repeat(version, 10))
	}), HTTPConfig{})
	if got, _, err := readFrom(t.Context(), src, 0); err == nil || !strings.Contains(err.Error(), "changed on the server") {
		t.Errorf("%q, %v: two versions were mixed", got, err)
	}
}

func TestPasswordInTheURLIsSentAndNeverShown(t *testing.T) {
	var user atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		both := u + ":" + p
		user.Store(&both)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	src := httpSource(t, nil, HTTPConfig{URL: strings.Replace(server.URL, "http://", "http://joe:hunter2@", 1), Attempts: 1})
	_, _, err := readFrom(t.Context(), src, 0)
	if sent := user.Load(); sent == nil || *sent != "joe:hunter2" {
		t.Errorf("sent %v, want joe:hunter2", sent)
	}
	server.Close()
	_, _, refused := readFrom(t.Context(), src, 0)
	for _, err := range []error{err, refused} {
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password, or there is none: %v", err)
		}
	}
}

func TestHTTPReadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 10))
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}), HTTPConfig{})
	if _, _, err := readFrom(ctx, src, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
