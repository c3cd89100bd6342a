package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	downloadName  = "bench"
	downloadBytes = 64 << 20
)

// downloading is one release behind a web server, and where it is to go.
type downloading struct {
	dir      string
	pin      release.Pin
	client   *release.Client
	manifest *release.Manifest
	repo     string // its URL
	url, sum string // of the binary itself
}

// measureDownload downloads one file in turns.
func measureDownload(ctx context.Context, b *bench) (figure, error) {
	for _, tool := range []string{"curl", "sha256sum", "sync"} {
		if _, err := exec.LookPath(tool); err != nil {
			return figure{Skipped: fmt.Sprintf("it compares with %s, which is not installed: %v", tool, err)}, nil
		}
	}
	d, stop, err := b.openDownload(ctx, true)
	if err != nil {
		return figure{}, err
	}
	defer stop()
	whole := &series{what: "Client.Fetch and the move into a slot", unit: "ms"}
	curl := &series{what: "curl -o, sha256sum", unit: "ms"}
	synced := &series{what: "curl -o, sha256sum, sync FILE", unit: "ms"}
	for n := range 1 + b.times(15, 3) {
		for _, turn := range []struct {
			to  *series
			run func(context.Context, string) error
		}{
			{whole, d.stage},
			{curl, func(ctx context.Context, dst string) error { return d.curl(ctx, dst, false) }},
			{synced, func(ctx context.Context, dst string) error { return d.curl(ctx, dst, true) }},
		} {
			dst := filepath.Join(d.dir, "download")
			began := time.Now()
			if err := turn.run(ctx, dst); err != nil {
				return figure{}, fmt.Errorf("%s: %w", turn.to.what, err)
			}
			if n > 0 { // the first turn warms caches
				turn.to.addTime(time.Since(began))
			}
			if err := os.RemoveAll(dst); err != nil {
				return figure{}, err
			}
		}
	}
	f := figure{
		Measures: measures(whole, curl, synced),
		Verdicts: []verdict{
			within("fetch, verify and stage / curl and sha256sum, median", "×", whole.median()/curl.median(), 1.5),
			{What: "the same / curl, sha256sum and sync, median", Unit: "×", Value: whole.median() / synced.median()},
		},
		Notes: []string{"ours is synced to the disk when it ends; curl alone leaves that to the kernel"},
	}
	err = b.measureMemory(ctx, d, &f)
	return f, err
}

// measureMemory downloads in processes of their own.
func (b *bench) measureMemory(ctx context.Context, d *downloading, f *figure) error {
	if runtime.GOOS != "linux" {
		f.Notes = append(f.Notes, "memory is read from /proc, which this system does not have")
		return nil
	}
	command, err := b.build(ctx, "bench/fetchonly", "")
	if err != nil {
		return err
	}
	small, stop, err := b.openDownload(ctx, false)
	if err != nil {
		return err
	}
	defer stop()
	for _, turn := range []struct {
		what, form string
		from       *downloading
		args       []string
		target     float64
	}{
		{"plain", release.FormatPlain, d, nil, 32},
		{"zstd", release.FormatZstd, small, nil, 32},
		{"minio/selfupdate alone, plain", "selfupdate", d, []string{"-selfupdate", d.url}, 0},
	} {
		memory := &series{what: turn.what + ": peak growth of resident memory", unit: "MiB"}
		took := &series{what: turn.what + ": in a process of its own", unit: "ms"}
		for range b.times(5, 1) {
			r, err := turn.from.child(ctx, command, turn.args...)
			if err != nil {
				return err
			}
			if r.Form != turn.form {
				return fmt.Errorf("want the form %s to be taken, found %s", turn.form, r.Form)
			}
			memory.add(float64(r.Growth) / (1 << 20))
			took.add(r.Took)
		}
		f.Measures = append(f.Measures, measures(memory, took)...)
		v := verdict{What: memory.what + ", highest", Unit: "MiB", Value: memory.quantile(1)}
		if turn.target > 0 {
			v = within(v.What, v.Unit, v.Value, turn.target)
		}
		f.Verdicts = append(f.Verdicts, v)
	}
	return nil
}

// fetched is what fetchonly prints.
type fetched struct {
	Form   string
	Bytes  int64
	Took   float64
	Growth int64
}

// child downloads with fetchonly.
func (d *downloading) child(ctx context.Context, command string, args ...string) (r fetched, err error) {
	dst := filepath.Join(d.dir, "child")
	args = append([]string{"-repo", d.repo, "-trust", publicKey(d.dir), "-name", downloadName, "-pin", d.pin.String(), "-dst", dst}, args...)
	var problem bytes.Buffer
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w: %s", command, err, bytes.TrimSpace(problem.Bytes()))
	}
	return r, errors.Join(json.Unmarshal(out, &r), os.RemoveAll(dst))
}

// openDownload publishes a file and serves it: one that does not compress, or
// one that does.
func (b *bench) openDownload(ctx context.Context, random bool) (d *downloading, stop func(), err error) {
	d = &downloading{}
	if d.dir, err = b.path("download"); err != nil {
		return nil, nil, err
	}
	blob := filepath.Join(d.dir, "blob")
	if err := writeBlob(blob, downloadBytes, random); err != nil {
		return nil, nil, err
	}
	repository, err := newRepositoryOf(d.dir, release.RepositoryConfig{PlainOnly: random})
	if err != nil {
		return nil, nil, err
	}
	if d.pin, err = repository.Publish(ctx, release.Release{Name: downloadName, Version: "1.0.0", Binaries: []release.Binary{{Path: blob}}}); err != nil {
		return nil, nil, err
	}
	if d.repo, stop, err = serveFiles(repoDir(d.dir)); err != nil {
		return nil, nil, err
	}
	if err := d.open(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	return d, stop, nil
}

func (d *downloading) open(ctx context.Context) error {
	trust, err := release.LoadTrust(publicKey(d.dir))
	if err != nil {
		return err
	}
	source, err := release.NewSource(d.repo)
	if err != nil {
		return err
	}
	if d.client, err = release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: downloadName}); err != nil {
		return err
	}
	if d.manifest, _, _, err = d.client.Manifest(ctx, d.pin); err != nil {
		return err
	}
	p, err := d.manifest.Here()
	d.sum, d.url = p.SHA256, d.repo+"/blobs/sha256/"+p.SHA256
	return err
}

// stage does what an upgrade does until there is a slot: Fetch, then mode,
// move, and a sync of what that has changed.
func (d *downloading) stage(ctx context.Context, dst string) error {
	download := filepath.Join(d.dir, "download-bench")
	if _, err := d.client.Fetch(ctx, d.manifest, download, release.FetchOptions{}); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(download, 0o700), syncPath(download), os.Mkdir(dst, 0o700)); err != nil { //nolint:gosec // an executable
		return err
	}
	return errors.Join(os.Rename(download, filepath.Join(dst, "agent")), syncPath(dst), syncPath(d.dir))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// curl does with common tools what Fetch does.
func (d *downloading) curl(ctx context.Context, dst string, sync bool) error {
	if out, err := exec.CommandContext(ctx, "curl", "--fail", "--silent", "--show-error", "-o", dst, d.url).CombinedOutput(); err != nil {
		return fmt.Errorf("curl: %w: %s", err, bytes.TrimSpace(out))
	}
	out, err := exec.CommandContext(ctx, "sha256sum", dst).Output()
	if err != nil {
		return fmt.Errorf("sha256sum: %w", err)
	}
	if found, _, _ := strings.Cut(string(out), " "); found != d.sum {
		return fmt.Errorf("want the digest %s, found %s", d.sum, found)
	}
	if !sync {
		return nil
	}
	return exec.CommandContext(ctx, "sync", dst).Run()
}

// writeBlob writes random bytes; every other KiB is zeros unless all are to be
// random.
func writeBlob(path string, size int64, random bool) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for done := int64(0); done < size && err == nil; done += int64(len(buf)) {
		_, err = io.ReadFull(rand.Reader, buf)
		for i := 0; i < len(buf) && !random; i += 2 << 10 {
			clear(buf[i : i+1<<10])
		}
		if err == nil {
			_, err = f.Write(buf)
		}
	}
	return errors.Join(err, f.Close())
}

// serveFiles serves a directory on a free port of the loopback interface.
func serveFiles(dir string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	return "http://" + listener.Addr().String(), func() {
		_ = server.Close()
		<-done
	}, nil
}
