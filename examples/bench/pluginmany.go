package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

const (
	manyTarget     = 20.0 // s
	manyIdleTarget = 2.0  // percent of a core
	scrapeTarget   = 5.0  // ms
)

// measureManyPlugins starts many plugins on a host of their own, twice, and
// leaves them alone.
func measureManyPlugins(ctx context.Context, b *bench) (f figure, err error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	n := b.times(200, 10)
	echo, err := b.buildWith(ctx, "bench/echo", "", "-s -w")
	if err != nil {
		return figure{}, err
	}
	host, err := b.build(ctx, "bench/pluginhost", "")
	if err != nil {
		return figure{}, err
	}
	b.say("plugins: %d executables are made", n)
	dir, executables, err := b.installMany(echo, n)
	if err != nil {
		return figure{}, err
	}
	state, err := b.path("state")
	if err != nil {
		return figure{}, err
	}
	bare, err := startManyPlain(ctx, b, executables)
	if err != nil {
		return figure{}, err
	}
	args := []string{"--dir", dir, "--state", state, "--count", strconv.Itoa(n)}
	first, _, s, err := b.launchHost(ctx, host, args)
	if err != nil {
		return figure{}, err
	}
	if err := s.stop(); err != nil {
		return figure{}, err
	}
	again, url, s, err := b.launchHost(ctx, host, args)
	if err != nil {
		return figure{}, err
	}
	f, err = b.restOfMany(ctx, s, n)
	scraped, scrapeErr := b.scrapeMany(ctx, url, n)
	err = errors.Join(err, scrapeErr)
	f.Verdicts = append([]verdict{
		within(fmt.Sprintf("scan and start of %d plugins that are new to the host", n), "s", first.Seconds(), manyTarget),
		within(fmt.Sprintf("scan and start of %d plugins that it has had before", n), "s", again.Seconds(), manyTarget),
		{What: fmt.Sprintf("start of %d plain gRPC servers, a task each", n), Unit: "s", Value: bare.Seconds()},
	}, f.Verdicts...)
	f.Measures, f.Verdicts = append(f.Measures, scraped.Measures...), append(f.Verdicts, scraped.Verdicts...)
	return f, errors.Join(err, s.stop())
}

// restOfMany leaves the host s of n plugins alone.
func (b *bench) restOfMany(ctx context.Context, s *server, n int) (figure, error) {
	u := newUsage("the host", s)
	settle, window := time.Duration(b.times(15, 1))*time.Second, time.Duration(b.times(60, 3))*time.Second
	if err := watchAll(ctx, []*usage{u}, settle, window); err != nil {
		return figure{}, err
	}
	percent := u.processor()
	children, err := residentOfChildren(s.cmd.Process.Pid)
	if err != nil {
		return figure{}, err
	}
	if len(children.samples) != n {
		return figure{}, fmt.Errorf("want %d plugins still running after %v, found %d; the log: %s", n, window, len(children.samples), s.written(0))
	}
	return figure{
		Measures: measures(u.resident, u.private, children),
		Verdicts: []verdict{within("the host, processor time", "% of a core", percent, manyIdleTarget)},
		Notes: []string{
			"each plugin is an executable of its own, which the host copies and hashes when it is new, and hashes when it is not",
			fmt.Sprintf("sampled every second for %v, %v after all plugins ran; in it the host asks each for its health and measures what it uses every 10 s", window, settle),
		},
	}, nil
}

// installMany makes a directory of n plugins, each with an executable of its
// own.
func (b *bench) installMany(echo string, n int) (dir string, executables []string, err error) {
	if dir, err = b.path("plugins"); err != nil {
		return "", nil, err
	}
	data, err := os.ReadFile(echo)
	if err != nil {
		return "", nil, err
	}
	made := filepath.Join(b.dir, "one-of-many")
	for i := range n {
		name := fmt.Sprintf("echo-%03d", i)
		// What follows the last section of an executable changes its digest
		// and nothing else.
		if err := os.WriteFile(made, append(data, name...), 0o755); err != nil { //nolint:gosec // an executable
			return "", nil, err
		}
		if _, err := plugin.Install(dir, made, plugin.Manifest{Name: name, Version: "1.0.0", Capabilities: []string{"echo"}}); err != nil {
			return "", nil, err
		}
		executables = append(executables, filepath.Join(dir, plugin.ExecutableName(name)))
	}
	return dir, executables, os.Remove(made)
}

// startManyPlain starts each executable as a plain server until it has done a
// task, as many at once as there are processors.
func startManyPlain(ctx context.Context, b *bench, executables []string) (time.Duration, error) {
	sockets, err := b.path("grpc")
	if err != nil {
		return 0, err
	}
	next := make(chan string)
	failed := make([]error, runtime.NumCPU())
	var wg sync.WaitGroup
	began := time.Now()
	for i := range failed {
		wg.Go(func() {
			for path := range next {
				_, err := startPlain(ctx, path, filepath.Join(sockets, filepath.Base(path)))
				failed[i] = errors.Join(failed[i], err)
			}
		})
	}
	for _, path := range executables {
		next <- path
	}
	close(next)
	wg.Wait()
	return time.Since(began), errors.Join(failed...)
}

// scrapeMany asks the host of n plugins for their metrics, compressed, as
// Prometheus does, and as they are.
func (b *bench) scrapeMany(ctx context.Context, url string, n int) (figure, error) {
	took := &series{what: fmt.Sprintf("/metrics of %d plugins", n), unit: "ms"}
	plain := &series{what: "of the same, not compressed", unit: "ms"}
	size := &series{what: "of the same: size", unit: "kB"}
	client := &http.Client{Timeout: clientLimit}
	uncompressed := &http.Client{Timeout: clientLimit, Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	defer uncompressed.CloseIdleConnections()
	for range b.times(200, 10) {
		began := time.Now()
		body, err := fetch(ctx, client, url+"/metrics")
		if err != nil {
			return figure{}, err
		}
		took.addTime(time.Since(began))
		began = time.Now()
		if _, err := fetch(ctx, uncompressed, url+"/metrics"); err != nil {
			return figure{}, err
		}
		plain.addTime(time.Since(began))
		size.add(float64(len(body)) / 1000)
		if states := strings.Count(string(body), "\nperennial_plugin_state{"); states < n {
			return figure{}, fmt.Errorf("want the state of %d plugins in /metrics, found %d", n, states)
		}
	}
	return figure{
		Measures: measures(took, plain, size),
		Verdicts: []verdict{
			within(fmt.Sprintf("/metrics of %d plugins, compressed, median", n), "ms", took.median(), scrapeTarget),
			within("of the same, not compressed, median", "ms", plain.median(), scrapeTarget),
		},
	}, nil
}

// launchHost starts a host and returns how long its plugins took to run, and
// where its metrics are.
func (b *bench) launchHost(ctx context.Context, host string, args []string) (took time.Duration, metrics string, s *server, err error) {
	s, err = b.launch(ctx, "runs them after ", host, args...)
	if err != nil {
		return 0, "", nil, err
	}
	text, rest, _ := strings.Cut(s.url, " with restarts: ")
	restarts, metrics, _ := strings.Cut(rest, " metrics on: ")
	took, err = time.ParseDuration(text)
	if err == nil && restarts != "0" {
		err = fmt.Errorf("want no restarts, found %s; the log: %s", restarts, s.written(0))
	}
	return took, metrics, s, err
}

// residentOfChildren is what each child of the process pid has in memory.
func residentOfChildren(pid int) (*series, error) {
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil, err
	}
	s := &series{what: "a plugin: resident memory (VmRSS)", unit: "MiB"}
	for _, path := range all {
		status := readText(path)
		if procValue(status, "PPid") != strconv.Itoa(pid) {
			continue
		}
		kilobytes, _, _ := strings.Cut(procValue(status, "VmRSS"), " ")
		n, err := strconv.Atoi(kilobytes)
		if err != nil {
			continue // it has just ended
		}
		s.add(float64(n) / 1024)
	}
	return s, nil
}
