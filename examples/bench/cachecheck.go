package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	checksARound   = 1000
	checkTarget    = 1.0 // seconds for that many
	checkedName    = "bench"
	checkedVersion = "1.0.19"
	checkReleases  = 20
)

// measureCacheCheck looks again and again whether what is kept still says
// what to run, on one processor.
func measureCacheCheck(ctx context.Context, b *bench) (figure, error) {
	dir, err := b.path("cachecheck")
	if err != nil {
		return figure{}, err
	}
	if err := publishSmall(ctx, dir); err != nil {
		return figure{}, err
	}
	var asked atomic.Int64
	url, stop, err := serveCounted(repoDir(dir), &asked)
	if err != nil {
		return figure{}, err
	}
	defer stop()
	client, err := cachingClient(dir, url)
	if err != nil {
		return figure{}, err
	}
	pin, err := client.Resolve(ctx, checkedVersion)
	if err != nil {
		return figure{}, err
	}
	filled := asked.Load()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	spent := &series{what: fmt.Sprintf("%d checks with IfNotPresent: processor time", checksARound), unit: "s"}
	round := &series{what: "of the same: by the clock", unit: "s"}
	for range b.times(11, 3) {
		began := time.Now()
		before, err := processorTime()
		if err != nil {
			return figure{}, err
		}
		for range checksARound {
			if found, err := client.Resolve(ctx, checkedVersion); err != nil || found != pin {
				return figure{}, fmt.Errorf("want the pin %s, found %s: %w", pin, found, err)
			}
		}
		after, err := processorTime()
		if err != nil {
			return figure{}, err
		}
		round.addTime(time.Since(began))
		spent.addTime(after - before)
	}
	if n := asked.Load() - filled; n > 0 {
		return figure{}, fmt.Errorf("want no request once the cache is filled, found %d", n)
	}
	return figure{
		Measures: measures(spent, round),
		Verdicts: []verdict{within(fmt.Sprintf("%d checks, processor time, median", checksARound), "s", spent.median(), checkTarget)},
		Notes: []string{
			"GOMAXPROCS is 1; other processes on the same cores add to the clock and not to the processor time",
			fmt.Sprintf("a check reads the kept index of %d releases and its signature, verifies it, compares it with trust.json and its expiry, and resolves a version to its pin", checkReleases),
			"the parsed form of an index whose bytes are the same is remembered, its verification is not",
		},
	}, nil
}

// publishSmall publishes releases whose binaries are of no account.
func publishSmall(ctx context.Context, dir string) error {
	repository, err := newRepository(dir)
	if err != nil {
		return err
	}
	binary := filepath.Join(dir, "binary")
	for i := range checkReleases {
		version := fmt.Sprintf("1.0.%d", i)
		if err := os.WriteFile(binary, []byte(version), 0o600); err != nil {
			return err
		}
		rel := release.Release{Name: checkedName, Version: version, Binaries: []release.Binary{{Path: binary}}}
		if _, err := repository.Publish(ctx, rel); err != nil {
			return err
		}
	}
	return nil
}

func cachingClient(dir, url string) (*release.Client, error) {
	trust, err := release.LoadTrust(publicKey(dir))
	if err != nil {
		return nil, err
	}
	source, err := release.NewSource(url)
	if err != nil {
		return nil, err
	}
	cache, err := release.NewCache(release.CacheConfig{Dir: filepath.Join(dir, "cache"), Source: source, Pull: release.PullIfNotPresent})
	if err != nil {
		return nil, err
	}
	return release.NewClient(release.ClientConfig{
		Source: cache, Trust: trust, Name: checkedName, StateFile: filepath.Join(dir, "trust.json"),
	})
}

// serveCounted is serveFiles, and counts the requests.
func serveCounted(dir string, asked *atomic.Int64) (url string, stop func(), err error) {
	return serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
}

// serve serves on a free port of the loopback interface.
func serve(handler http.Handler) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
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
