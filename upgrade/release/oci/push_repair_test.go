package oci

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// rot changes one byte in the middle of a file and leaves its size.
func rot(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	overwrite(t, path, data)
}

func hexOfBytes(data []byte) string { return strings.TrimPrefix(digestOf(data), digestPrefix) }

// good fails the test unless the repository reads as whole.
func (f *fixture) good(t *testing.T, src release.Source) {
	t.Helper()
	v, err := f.client(src).Verify(t.Context())
	if err != nil || len(v.Damage) > 0 {
		t.Errorf("%v, %v", v, err)
	}
}

func TestPushMendsABlobOfALayoutThatRotted(t *testing.T) {
	t.Parallel()
	f, dir := pushedLayout(t)
	to := Config{Location: schemeLayout + dir}
	path := blobFile(dir, hexOfBytes(content("1.0.0")))
	for name, damage := range map[string]func(){
		"a bit":     func() { rot(t, path) },
		"truncated": func() { overwrite(t, path, content("1.0.0")[:10]) },
		"empty":     func() { overwrite(t, path, nil) },
	} {
		damage()
		if pushed := f.push(PushConfig{Target: to}); pushed.Sent != 1 || pushed.Repaired != 1 {
			t.Errorf("%s: sent %d, repaired %d, want 1 and 1", name, pushed.Sent, pushed.Repaired)
		}
		f.good(t, source(t, to))
	}
	if pushed := f.push(PushConfig{Target: to}); pushed.Sent != 0 {
		t.Errorf("nothing is damaged any more: sent %d", pushed.Sent)
	}
}

// Every file of a layout but those that name it may rot.
func TestRepairMendsWhateverRotsInALayout(t *testing.T) {
	t.Parallel()
	f, dir := pushedLayout(t)
	to := Config{Location: schemeLayout + dir}
	want := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d blobs, %v", len(files), err)
	}
	for _, path := range files {
		if want[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files {
		for how, damage := range damages(want[path]) {
			overwrite(t, path, damage)
			if _, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: to, Repair: true, Trust: f.trust, Name: "agentd"}); err != nil {
				t.Errorf("%.80q, %s: %v", want[path], how, err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want[path]) {
				t.Errorf("%.80q, %s: it is left as %.80q, %v", want[path], how, got, err)
				overwrite(t, path, want[path])
			}
		}
	}
	f.good(t, source(t, to))
}

// damages returns what may become of data: bits that flip, in what is read to
// find the rest at many places, and other lengths.
func damages(data []byte) map[string][]byte {
	all := map[string][]byte{
		"a byte more": append(bytes.Clone(data), 'x'),
		"truncated":   data[:len(data)/2],
		"empty":       nil,
	}
	flips := 3
	if bytes.Contains(data, []byte(ArtifactFiles)) {
		flips = 40
	}
	for i := range flips {
		flipped := bytes.Clone(data)
		at := i * len(data) / flips
		flipped[at] ^= 1
		all[fmt.Sprintf("bit at %d", at)] = flipped
	}
	return all
}

func TestRepairNeverTakesALayoutBackToAnOlderIndex(t *testing.T) {
	t.Parallel()
	_, dir, old := pushedTwice(t)
	to := Config{Location: schemeLayout + dir}
	rot(t, blobFile(dir, hexOfBytes(content("1.0.0"))))
	_, err := Push(t.Context(), PushConfig{Dir: old, Target: to, Repair: true})
	if !errors.Is(err, release.ErrReplay) {
		t.Errorf("%v, want %v", err, release.ErrReplay)
	}
	// Nor does a registry that just does not answer count as a damaged one.
	location := serveHostile(t, hostile(dir, func(w http.ResponseWriter, _ *http.Request, rest string) bool {
		if rest == "manifests/"+Tag {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}))
	_, err = Push(t.Context(), PushConfig{Dir: old, Target: Config{Location: location}, Repair: true})
	says(t, err, "tag "+Tag, "403")
}

// The distribution project's registry never replaces a blob: what the push says
// to do with its storage must be what helps.
func TestRepairOfARegistryThatKeepsItsDamageSaysWhatToRemove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	data := t.TempDir()
	to := Config{Location: schemeRegistry + peertest.Registry(t, data, "") + "/team/agentd"}
	f.push(PushConfig{Target: to})
	f.push(PushConfig{Target: to, Repair: true})
	src := source(t, to)
	blobs := [][]byte{content("1.0.0"), append(content("1.0.0"), "plan9"...)}
	stored := func(data []byte) string {
		hex := hexOfBytes(data)
		return "docker/registry/v2/blobs/sha256/" + hex[:2] + "/" + hex + "/data"
	}
	for _, b := range blobs {
		rot(t, filepath.Join(data, "data", stored(b)))
	}
	v, err := f.client(src).Verify(t.Context())
	if err != nil || len(v.Damage) != 2 {
		t.Fatalf("%v, %v", v, err)
	}
	says(t, errors.New(v.String()), "--repair")
	f.publish("1.1.0")
	if pushed := f.push(PushConfig{Target: to}); pushed.Repaired != 0 {
		t.Errorf("repaired %d without having been asked to", pushed.Repaired)
	}
	_, err = Push(t.Context(), PushConfig{Dir: f.dir, Target: to, Repair: true})
	if !errors.Is(err, release.ErrDigest) {
		t.Errorf("%v, want %v", err, release.ErrDigest)
	}
	says(t, err, stored(blobs[0]), stored(blobs[1]))
	for _, b := range blobs {
		if err := os.Remove(filepath.Join(data, "data", stored(b))); err != nil {
			t.Fatal(err)
		}
	}
	if pushed := f.push(PushConfig{Target: to, Repair: true}); pushed.Sent != 2 {
		t.Errorf("sent %d, want the two that were removed", pushed.Sent)
	}
	f.good(t, src)
}

// A registry that takes what it is sent is mended by it.
func TestRepairSendsARegistryWhatItServesDamaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	var damaged atomic.Bool
	blob := digestOf(content("1.0.0"))
	to := &url.URL{Scheme: "http", Host: startReferrers(t)}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		p.Out.Host = p.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+blob) && damaged.Load():
			_, _ = w.Write(bytes.Repeat([]byte("x"), len(content("1.0.0"))))
			return
		case r.Method == http.MethodPut && r.URL.Query().Get("digest") == blob:
			damaged.Store(false)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	there := Config{Location: schemeRegistry + strings.TrimPrefix(server.URL, "http://") + "/team/agentd"}
	f.push(PushConfig{Target: there})
	damaged.Store(true)
	if pushed := f.push(PushConfig{Target: there}); pushed.Sent != 0 {
		t.Errorf("sent %d without having read", pushed.Sent)
	}
	if pushed := f.push(PushConfig{Target: there, Repair: true}); pushed.Sent != 1 || pushed.Repaired != 1 {
		t.Errorf("sent %d, repaired %d, want 1 and 1", pushed.Sent, pushed.Repaired)
	}
	f.good(t, source(t, there))
}
