package release

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestTLSThatCannotComeAboutIsSaidAtOnceWithWhatToGive: five attempts and a
// "400 Bad Request" tell an operator nothing.
func TestTLSThatCannotComeAboutIsSaidAtOnceWithWhatToGive(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	other := private(t, filepath.Join(t.TempDir(), "other"), newAuthority(t, "other").PEM())
	own := private(t, filepath.Join(t.TempDir(), "own"), ca.PEM())
	for name, tt := range map[string]struct {
		answer string // of a server without TLS; empty has TLS
		scheme string // that it is spoken to
		caFile string
		host   string // in the address, in place of 127.0.0.1
		says   string
	}{
		"unknown authority":         {"", "https", "", "", "give the certificate of its authority in a PEM file (CAFile, --repo-ca)"},
		"authority of another":      {"", "https", other, "", "add the one that has signed the server's certificate (CAFile, --repo-ca)"},
		"name of another":           {"", "https", own, "0.0.0.0", "or the address another name"},
		"plain HTTP to Go's TLS":    {"", "http", "", "", "an address with https://, or oci:// in place of oci+http://"},
		"plain HTTP to nginx's TLS": {"<h1>The plain HTTP request was sent to HTTPS port</h1>", "http", "", "", "an address with https://"},
		"TLS to plain HTTP":         {"data", "https", "", "", "the port at which the server speaks TLS"},
		"another bad request":       {"no such thing", "http", "", "", "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, tt.answer)
			})
			var server *httptest.Server
			if tt.answer == "" {
				server = ca.serveTLS(t, nil, handler)
			} else {
				server = httptest.NewServer(handler)
				t.Cleanup(server.Close)
			}
			relay, connections := counted(t, server.Listener.Addr().String())
			if tt.host != "" {
				_, port, _ := net.SplitHostPort(relay)
				relay = net.JoinHostPort(tt.host, port)
			}
			_, _, err := readFrom(t.Context(), httpSource(t, nil, HTTPConfig{URL: tt.scheme + "://" + relay, CAFile: tt.caFile}), 0)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
			if n := connections.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// counted relays connections to addr and counts them.
func counted(t *testing.T, addr string) (relay string, connections *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			out, err := net.Dial("tcp", addr)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	return ln.Addr().String(), connections
}

// TestBodyOfABadRequestIsHandedOn: it says why, to who reads it.
func TestBodyOfABadRequestIsHandedOn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("why ", 1<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, long)
	}))
	t.Cleanup(server.Close)
	client, err := OpenHTTPClient(HTTPConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if _ = resp.Body.Close(); err != nil || string(got) != long {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
