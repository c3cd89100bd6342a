// Command fetchonly downloads one release and says what that took of its
// memory: by way of a release.Client, or of minio/selfupdate alone.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/selfupdate"

	"github.com/perennial-go/perennial/upgrade/release"
)

type flags struct{ repo, trust, name, pin, dst, old, selfupdate string }

// result is printed as one line of JSON.
type result struct {
	Form  string
	Bytes int64
	// Took is in milliseconds, Growth in bytes: the highest resident memory
	// over that before the download.
	Took   float64
	Growth int64
}

func main() {
	var f flags
	flag.StringVar(&f.repo, "repo", "", "`location` of the releases")
	flag.StringVar(&f.trust, "trust", "", "`file` with the public key of the releases")
	flag.StringVar(&f.name, "name", "", "`program` whose release is wanted")
	flag.StringVar(&f.pin, "pin", "", "`pin` of the release")
	flag.StringVar(&f.dst, "dst", "", "`file` to download to")
	flag.StringVar(&f.old, "old", "", "`sha256=file` of an older binary")
	flag.StringVar(&f.selfupdate, "selfupdate", "", "download this `URL` with minio/selfupdate")
	flag.Parse()
	r, err := run(context.Background(), f)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetchonly:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (result, error) {
	trust, err := release.LoadTrust(f.trust)
	if err != nil {
		return result{}, err
	}
	source, err := release.NewSource(f.repo)
	if err != nil {
		return result{}, err
	}
	client, err := release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: f.name})
	if err != nil {
		return result{}, err
	}
	pin, err := release.ParsePin(f.pin)
	if err != nil {
		return result{}, err
	}
	m, _, _, err := client.Manifest(ctx, pin)
	if err != nil {
		return result{}, err
	}
	before, err := resident("VmRSS:")
	if err != nil {
		return result{}, err
	}
	// 5 sets the high-water mark to what is resident now.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return result{}, err
	}
	began := time.Now()
	r := result{Form: "selfupdate"}
	if f.selfupdate != "" {
		err = update(ctx, f, m)
	} else {
		var got release.Fetched
		opts := release.FetchOptions{}
		if digest, path, ok := strings.Cut(f.old, "="); ok {
			opts.Old = map[string]string{digest: path}
		}
		got, err = client.Fetch(ctx, m, f.dst, opts)
		r.Form, r.Bytes = got.Form, got.Bytes
	}
	if err != nil {
		return result{}, err
	}
	r.Took = float64(time.Since(began)) / float64(time.Millisecond)
	after, err := resident("VmHWM:")
	r.Growth = after - before
	return r, err
}

func update(ctx context.Context, f flags, m *release.Manifest) error {
	p, err := m.Here()
	if err != nil {
		return err
	}
	sum, err := hex.DecodeString(p.SHA256)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.selfupdate, http.NoBody)
	if err != nil {
		return err
	}
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		return err
	}
	err = selfupdate.PrepareAndCheckBinary(res.Body, selfupdate.Options{TargetPath: f.dst, Checksum: sum})
	return errors.Join(err, res.Body.Close(), os.Remove(filepath.Join(filepath.Dir(f.dst), "."+filepath.Base(f.dst)+".new")))
}

// resident reads a field of this process's status, in bytes.
func resident(field string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), field)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0, fmt.Errorf("/proc/self/status has no %s", field)
	}
	kib, err := strconv.ParseInt(words[0], 10, 64)
	return kib << 10, err
}
