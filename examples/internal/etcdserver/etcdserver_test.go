package etcdserver_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/perennial-go/perennial/examples/internal/etcdserver"
)

// TestKeepsDataOverRestart: what is tried out would otherwise be gone with
// the process.
func TestKeepsDataOverRestart(t *testing.T) {
	var log bytes.Buffer
	cfg := etcdserver.Config{
		Dir: filepath.Join(t.TempDir(), "new"), Listen: "127.0.0.1:0", Fast: true,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	for _, want := range []int64{0, 1} {
		s, err := etcdserver.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.URL()}, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Put(t.Context(), "/k", "v", clientv3.WithPrevKV())
		if err != nil {
			t.Fatal(err)
		}
		if r.PrevKv != nil != (want == 1) {
			t.Errorf("found %v: want %d earlier values", r.PrevKv, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(ctx); err != nil {
			t.Errorf("Wait: %v", err)
		}
		s.Close()
		s.Close()
		if err := s.Wait(t.Context()); err == nil {
			t.Error("Wait on a closed server said nothing")
		}
	}
	if log.Len() > 0 {
		t.Errorf("a good start and stop are noisy:\n%s", &log)
	}
}

// TestRefusesWithOneSentence: a newcomer's first mistake must not end in a
// hang or in etcd's own words alone.
func TestRefusesWithOneSentence(t *testing.T) {
	dir := t.TempDir()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Listen: "127.0.0.1:0", Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name string
		cfg  etcdserver.Config
		want string
	}{
		{"no directory", etcdserver.Config{}, "want the directory"},
		{"directory is a file", etcdserver.Config{Dir: file}, file},
		{"directory in use", etcdserver.Config{Dir: dir, Listen: "127.0.0.1:0"}, "used by another process"},
		{"address in use", etcdserver.Config{Dir: t.TempDir(), Listen: strings.TrimPrefix(s.URL(), "http://")}, "address already in use"},
		{"no port", etcdserver.Config{Dir: t.TempDir(), Listen: "127.0.0.1"}, "want host:port"},
		{"flag that etcd has not", etcdserver.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Flags: []string{"--no-such-flag"}}, "no-such-flag"},
		{"flag that is none", etcdserver.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Flags: []string{"flag"}}, "want flags only"},
		{"host by name", etcdserver.Config{Dir: t.TempDir(), Listen: "example.com:2379"}, "want an IP address"},
	} {
		began := time.Now()
		_, err := etcdserver.Start(t.Context(), bad.cfg)
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: want %q, got %v", bad.name, bad.want, err)
		}
		if waited := time.Since(began); waited > 20*time.Second {
			t.Errorf("%s: refused only after %s", bad.name, waited)
		}
	}
}
