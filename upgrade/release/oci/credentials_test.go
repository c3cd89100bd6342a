package oci

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// dockerConfig writes docker's configuration with credentials for a host.
func dockerConfig(t *testing.T, location, user, password string) string {
	t.Helper()
	ref, err := parseLocation(location)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"auths": map[string]any{
		ref.ref.Host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	overwrite(t, file, text)
	return file
}

func TestCredentialsComeFromDockerAndAreNeverShown(t *testing.T) {
	f, dir := pushedLayout(t)
	pin := f.publish("1.0.0")
	var asked atomic.Int32
	basic := hostile(dir, func(w http.ResponseWriter, r *http.Request, _ string) bool {
		asked.Add(1)
		if user, password, _ := r.BasicAuth(); user == "joe" && password == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	location := serveHostile(t, basic)
	good := dockerConfig(t, location, "joe", "hunter2")
	if _, err := f.fetch(source(t, Config{Location: location, DockerConfig: good}), pin); err != nil {
		t.Errorf("with credentials: %v", err)
	}
	for name, file := range map[string]string{
		"wrong":     dockerConfig(t, location, "joe", "hunter3"),
		"none":      filepath.Join(t.TempDir(), "none.json"),
		"elsewhere": dockerConfig(t, "oci://registry.example.com/x", "joe", "hunter2"),
		"broken":    filepath.Join(t.TempDir(), "broken.json"),
	} {
		if name == "broken" {
			overwrite(t, file, []byte(`{"auths":{"hunter2`))
		}
		asked.Store(0)
		_, err := f.fetch(source(t, Config{Location: location, DockerConfig: file, Attempts: 5}), pin)
		if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "joe") {
			t.Errorf("%s: %v, want fs.ErrPermission without credentials", name, err)
		}
		if name != "broken" && !strings.Contains(err.Error(), "docker login") {
			t.Errorf("%s: %v, want advice", name, err)
		}
		// Wrong passwords that are tried again and again lock accounts.
		if asked.Load() > 2 {
			t.Errorf("%s: asked %d times", name, asked.Load())
		}
	}
	server := httptest.NewServer(basic)
	server.Close()
	gone := schemeRegistry + "joe:hunter2@" + strings.TrimPrefix(server.URL, "http://") + "/x"
	if _, err := New(Config{Location: gone}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("password in the location: %v, want it refused and not shown", err)
	}
}

func TestTokensAreExchangedAndStayWithTheRegistry(t *testing.T) {
	f, dir := pushedLayout(t)
	pin := f.publish("1.0.0")
	var leaked atomic.Pointer[string]
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			leaked.Store(&h)
		}
		if r.URL.Query().Get("X-Signature") != "s3cret" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		http.ServeFile(w, r, blobFile(dir, strings.TrimPrefix(path.Base(r.URL.Path), digestPrefix)))
	}))
	t.Cleanup(storage.Close)
	var exchanged atomic.Int32
	var self atomic.Pointer[string]
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			if user != "joe" || password != "hunter2" || r.URL.Query().Get("scope") != "repository:"+hostileRepository+":pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			exchanged.Add(1)
			_, _ = fmt.Fprint(w, `{"token":"t0ken"}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+*self.Load()+`/token",service="s",scope="repository:`+hostileRepository+`:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, storage.URL+"/"+path.Base(r.URL.Path)+"?X-Signature=s3cret", http.StatusTemporaryRedirect)
			return
		}
		hostile(dir, nil).ServeHTTP(w, r)
	}))
	t.Cleanup(registry.Close)
	self.Store(&registry.URL)
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	location := schemeRegistry + u.Host + "/" + hostileRepository
	src := source(t, Config{Location: location, DockerConfig: dockerConfig(t, location, "joe", "hunter2")})
	if _, err := f.fetch(src, pin); err != nil {
		t.Fatal(err)
	}
	if exchanged.Load() != 1 {
		t.Errorf("%d tokens were fetched, want one for all requests", exchanged.Load())
	}
	if h := leaked.Load(); h != nil {
		t.Errorf("the storage that the registry redirects to was sent %q", *h)
	}
	storage.Close()
	if _, err := f.fetch(src, pin); err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("storage down: %v, want an error without the signature of the redirect", err)
	}
}
