package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	stageName  = "bench"
	stageBytes = 64 << 20
)

// staging is one release behind a web server, and where it is to go.
type staging struct {
	dir      string
	client   *release.Client
	manifest *release.Manifest
	url, sum string
}

// measureStage downloads one file in turns.
func measureStage(ctx context.Context, b *bench) (figure, error) {
	for _, tool := range []string{"curl", "sha256sum", "sync"} {
		if _, err := exec.LookPath(tool); err != nil {
			return figure{Skipped: fmt.Sprintf("it compares with %s, which is not installed: %v", tool, err)}, nil
		}
	}
	s, stop, err := b.openStaging(ctx)
	if err != nil {
		return figure{}, err
	}
	defer stop()
	fetch := &series{what: "Client.Fetch", unit: "ms"}
	curl := &series{what: "curl -o, sha256sum", unit: "ms"}
	synced := &series{what: "curl -o, sha256sum, sync FILE", unit: "ms"}
	for n := range 1 + b.times(11, 3) {
		for _, turn := range []struct {
			to  *series
			run func(context.Context, string) error
		}{
			{fetch, s.fetch},
			{curl, func(ctx context.Context, dst string) error { return s.curl(ctx, dst, false) }},
			{synced, func(ctx context.Context, dst string) error { return s.curl(ctx, dst, true) }},
		} {
			dst := filepath.Join(s.dir, "download")
			began := time.Now()
			if err := turn.run(ctx, dst); err != nil {
				return figure{}, fmt.Errorf("%s: %w", turn.to.what, err)
			}
			if n > 0 { // the first turn warms caches
				turn.to.addTime(time.Since(began))
			}
			if err := os.Remove(dst); err != nil {
				return figure{}, err
			}
		}
	}
	return figure{
		Measures: measures(fetch, curl, synced),
		Verdicts: []verdict{
			{What: "Client.Fetch / curl and sha256sum, median", Unit: "×", Value: fetch.median() / curl.median()},
			{What: "Client.Fetch / curl, sha256sum and sync, median", Unit: "×", Value: fetch.median() / synced.median()},
		},
		Notes: []string{"Fetch syncs the file to disk before it renames it; curl alone leaves that to the kernel"},
	}, nil
}

// openStaging publishes the file and serves it.
func (b *bench) openStaging(ctx context.Context) (s *staging, stop func(), err error) {
	s = &staging{}
	if s.dir, err = b.path("stage"); err != nil {
		return nil, nil, err
	}
	blob := filepath.Join(s.dir, "blob")
	if err := writeRandom(blob, stageBytes); err != nil {
		return nil, nil, err
	}
	repository, err := newRepository(s.dir)
	if err != nil {
		return nil, nil, err
	}
	pin, err := repository.Publish(ctx, release.Release{Name: stageName, Version: "1.0.0", Binaries: []release.Binary{{Path: blob}}})
	if err != nil {
		return nil, nil, err
	}
	url, stop, err := serveFiles(repoDir(s.dir))
	if err != nil {
		return nil, nil, err
	}
	if err := s.open(ctx, url, pin); err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}

func (s *staging) open(ctx context.Context, url string, pin release.Pin) error {
	trust, err := release.LoadTrust(publicKey(s.dir))
	if err != nil {
		return err
	}
	source, err := release.NewSource(url)
	if err != nil {
		return err
	}
	if s.client, err = release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: stageName}); err != nil {
		return err
	}
	if s.manifest, _, _, err = s.client.Manifest(ctx, pin); err != nil {
		return err
	}
	p, err := s.manifest.Here()
	s.sum, s.url = p.SHA256, url+"/blobs/sha256/"+p.SHA256
	return err
}

func (s *staging) fetch(ctx context.Context, dst string) error {
	return s.client.Fetch(ctx, s.manifest, dst, nil)
}

// curl does with common tools what Fetch does.
func (s *staging) curl(ctx context.Context, dst string, sync bool) error {
	if out, err := exec.CommandContext(ctx, "curl", "--fail", "--silent", "--show-error", "-o", dst, s.url).CombinedOutput(); err != nil {
		return fmt.Errorf("curl: %w: %s", err, bytes.TrimSpace(out))
	}
	out, err := exec.CommandContext(ctx, "sha256sum", dst).Output()
	if err != nil {
		return fmt.Errorf("sha256sum: %w", err)
	}
	if found, _, _ := strings.Cut(string(out), " "); found != s.sum {
		return fmt.Errorf("want the digest %s, found %s", s.sum, found)
	}
	if !sync {
		return nil
	}
	return exec.CommandContext(ctx, "sync", dst).Run()
}

func writeRandom(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Close())
}

// serveFiles serves a directory on a free port of the loopback interface.
func serveFiles(dir string) (url string, stop func(), err error) {
	return serve(http.FileServer(http.Dir(dir)))
}
