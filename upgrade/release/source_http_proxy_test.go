package release

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
)

// The environment of a reader process; set by the test below only.
const (
	envProxyURL = "UPGRADE_TEST_PROXY_URL"
	envProxyCA  = "UPGRADE_TEST_PROXY_CA"
	envProxyKey = "UPGRADE_TEST_PROXY_AUTH"
)

// TestReaderBehindProxyProcess is no test but the main function of readers
// with an environment of their own: net/http looks at it once in a process.
func TestReaderBehindProxyProcess(t *testing.T) {
	reexec.Begin(t)
	src := httpSource(t, nil, HTTPConfig{URL: os.Getenv(envProxyURL), CAFile: os.Getenv(envProxyCA), AuthFile: os.Getenv(envProxyKey), Attempts: 1})
	if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "data" {
		t.Fatalf("%q, %v", got, err)
	}
}

// proxy is a real one for both kinds: it leads every host to backend.
func proxy(s *seen, backend string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.add(r.Method + " " + r.Host + " " + r.Header.Get("Authorization") + r.Header.Get("Proxy-Authorization"))
		server, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", backend)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = server.Close() }()
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = client.Close() }()
		if r.Method == http.MethodConnect {
			_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		} else if r.Write(server) != nil {
			return
		}
		go func() { _, _ = io.Copy(server, buffered) }()
		_, _ = io.Copy(client, server)
	})
}

func TestProxyOfTheEnvironmentIsUsedAndShownNoAuthorization(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			ca, atServer, atProxy, dir := newAuthority(t, "ca"), new(seen), new(seen), t.TempDir()
			server := httptest.NewServer(atServer.witness(nil))
			// net/http never uses a proxy for this host itself, so the name
			// is one that the certificate has and only the proxy can reach.
			env := []string{envProxyURL + "=http://repo.example.test/r"}
			want := []string{"GET repo.example.test Basic am9lOng="}
			if scheme == "https" {
				server.Close()
				server = ca.serveTLS(t, nil, atServer.witness(nil))
				env = []string{
					envProxyURL + "=https://192.0.2.7/r",
					envProxyCA + "=" + private(t, filepath.Join(dir, "ca"), ca.PEM()),
					envProxyKey + "=" + private(t, filepath.Join(dir, "token"), []byte("Bearer secret")),
				}
				want = []string{"CONNECT 192.0.2.7:443 Basic am9lOng="}
			}
			t.Cleanup(server.Close)
			through := httptest.NewServer(proxy(atProxy, server.Listener.Addr().String()))
			t.Cleanup(through.Close)

			cmd := reexec.Test(t, "TestReaderBehindProxyProcess", "")
			address := strings.Replace(through.URL, "http://", "http://joe:x@", 1)
			cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool {
				return strings.Contains(strings.ToUpper(v), "_PROXY=")
			}), append(env, "HTTP_PROXY="+address, "HTTPS_PROXY="+address)...)
			output := new(bytes.Buffer)
			cmd.Stdout, cmd.Stderr = output, output
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v:\n%s", err, output)
			}
			if got := atProxy.take(); !slices.Equal(got, want) {
				t.Errorf("the proxy saw %q, want %q", got, want)
			}
			shown := ""
			if scheme == "https" {
				shown = "Bearer secret"
			}
			if got := atServer.take(); !slices.Equal(got, []string{shown}) {
				t.Errorf("the server was shown %q, want %q", got, shown)
			}
		})
	}
}
