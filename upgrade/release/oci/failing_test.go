package oci

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/peertest"
)

func TestBlobThatBreaksOffIsResumed(t *testing.T) {
	f, dir := pushedLayout(t)
	pin := f.publish("1.0.0")
	whole := content("1.0.0")
	var ranges atomic.Int32
	var cut atomic.Bool
	location := serveHostile(t, hostile(dir, func(w http.ResponseWriter, r *http.Request, rest string) bool {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		if rest != "blobs/"+digestOf(whole) || !cut.CompareAndSwap(false, true) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		_, _ = w.Write(whole[:100_000])
		return true
	}))
	if got, err := f.fetch(source(t, Config{Location: location}), pin); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if ranges.Load() != 1 {
		t.Errorf("%d requests for a range, want one", ranges.Load())
	}
}

// proxied puts meddle between us and a real registry.
func proxied(t *testing.T, meddle func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: peertest.Registry(t, t.TempDir(), "")}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		p.Out.Host = p.In.Host // the registry names itself in its answers
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !meddle(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return schemeRegistry + strings.TrimPrefix(server.URL, "http://") + "/team/agentd"
}

func TestPushOutlastsARegistryThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pin := f.publish("1.0.0")
	var writes atomic.Int32
	location := proxied(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || writes.Add(1)%3 != 0 {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	f.push(PushConfig{Target: Config{Location: location, Attempts: 4}, Key: newPrivateKey(t)})
	if _, err := f.fetch(source(t, Config{Location: location}), pin); err != nil {
		t.Error(err)
	}
}

func TestPushToARegistryThatNeverTakesItIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		on     string
		answer func(w http.ResponseWriter, r *http.Request)
		want   error
		asked  int32
		says   string
	}{
		{"stalls", http.MethodPut, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else nobody sees that the client has gone
			<-r.Context().Done()
		}, errStalled, 2, "given up after 2 attempts"},
		{"read only", http.MethodPost, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, fs.ErrPermission, 1, "docker login"},
		{"refuses", http.MethodPost, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }, nil, 1, "405"},
		{"always fails", http.MethodPost, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil, 2, "given up after 2 attempts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.publish("1.0.0")
			var asked atomic.Int32
			location := proxied(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != tt.on {
					return false
				}
				asked.Add(1)
				tt.answer(w, r)
				return true
			})
			_, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: Config{Location: location, Attempts: 2, StallTimeout: time.Second}})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			says(t, err, tt.says)
			if asked.Load() > tt.asked {
				t.Errorf("asked %d times, want %d at most", asked.Load(), tt.asked)
			}
		})
	}
}

func TestTagsOfVersionsDoNotMove(t *testing.T) {
	t.Parallel()
	for _, p := range places()[:2] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			location := p.location(t)
			f := newFixture(t)
			f.publish("1.0.0")
			f.push(PushConfig{Target: Config{Location: location}})
			to, ok := source(t, Config{Location: location}).back.(target)
			if !ok {
				t.Fatal("it cannot be written")
			}
			// Somebody puts the next version's tag on what is there.
			raw, err := to.manifest(t.Context(), "1.0.0")
			if err != nil {
				t.Fatal(err)
			}
			d := descriptor("application/vnd.oci.image.index.v1+json", digestOf(raw), int64(len(raw)))
			if err := to.putManifest(t.Context(), d, raw, "1.1.0"); err != nil {
				t.Fatal(err)
			}
			f.publish("1.1.0")
			_, err = Push(t.Context(), PushConfig{Dir: f.dir, Target: Config{Location: location}})
			says(t, err, "the tag 1.1.0 is there as "+digestOf(raw), "a version never changes")
		})
	}
}
